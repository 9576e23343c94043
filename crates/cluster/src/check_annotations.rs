//! Checks changes of properties, and hashes of contents, against the tree and the limits.

use relais_proto::{ContentHashes, ErrorCode, Lsn, PropertyChange, Refusal, TreePath, limits};

use crate::properties::PathProperties;
use crate::tree_view::TreeView;

/// Checks the sizes of properties, alone and together with those that are there.
///
/// # Errors
/// [`ErrorCode::Limit`], or [`ErrorCode::BadName`].
pub(crate) fn check_properties<V: TreeView>(
    path: &TreePath,
    changes: &[PropertyChange],
    tree: &mut V,
) -> Result<(), Refusal> {
    PropertyChange::check_sizes(changes)
        .map_err(|refusal| Refusal { path: Some(path.clone()), ..refusal })?;
    let (before, after) = match tree.properties(path) {
        Some(here) => (here.memory(path), here.with(changes)),
        None => (0, PathProperties::default().with(changes)),
    };
    let all = (tree.property_bytes() - before).saturating_add(after.memory(path));
    let refuse = |what: &str, cap: usize| {
        Err(Refusal::at(path, ErrorCode::Limit, format!("{what}: the limit is {cap}")))
    };
    if after.len() > limits::PROPERTIES {
        return refuse("it would have too many properties", limits::PROPERTIES);
    }
    if after.bytes() > limits::PROPERTIES_OF_PATH {
        return refuse("its properties would have too many bytes", limits::PROPERTIES_OF_PATH);
    }
    // What makes less is always allowed.
    if all > limits::PROPERTIES_OF_TREE && after.memory(path) > before {
        return refuse(
            "the properties of all files would have too many bytes",
            limits::PROPERTIES_OF_TREE,
        );
    }
    Ok(())
}

/// Checks that the tree has the content, without hashes, and that the pieces fit its size.
///
/// # Errors
/// [`ErrorCode::NotFound`], [`ErrorCode::Exists`] or [`ErrorCode::BadRequest`].
pub(crate) fn check_hashes<V: TreeView>(
    put: Lsn,
    hashes: &ContentHashes,
    tree: &mut V,
) -> Result<(), Refusal> {
    let Some(size) = tree.size_of(put) else {
        let message = format!("no file has the content of change {put} any more");
        return Err(Refusal::new(ErrorCode::NotFound, message));
    };
    if tree.has_hashes(put) {
        let message = format!("the hashes of change {put} are recorded already");
        return Err(Refusal::new(ErrorCode::Exists, message));
    }
    if !hashes.fit(size) {
        let message = format!("the pieces do not fit a content of {size} bytes");
        return Err(Refusal::new(ErrorCode::BadRequest, message));
    }
    Ok(())
}
