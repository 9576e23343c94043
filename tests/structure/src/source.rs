//! Modules of a crate as its sources declare them. Tests are left out.
//!
//! Recorded for each module: the items that it defines, its `use` declarations and the paths that
//! it names. Paths in macro calls are found in their tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// One module, in a file or inline.
pub(crate) struct Module {
    /// Names from the crate's root on; empty for the root.
    pub path: Vec<String>,
    pub file: PathBuf,
    pub items: BTreeSet<String>,
    /// Structs, enums, unions, traits and type aliases.
    pub types: Vec<String>,
    /// Names that `use` declarations bring in, each with what it stands for.
    pub uses: Vec<(String, Vec<String>)>,
    pub globs: Vec<Vec<String>>,
    pub paths: BTreeSet<Vec<String>>,
}

/// Modules by their paths.
pub(crate) type Modules = BTreeMap<Vec<String>, Module>;

/// Loads a crate from its root file. Paths of files are recorded from `base` on.
pub(crate) fn load(base: &Path, root: &Path) -> Result<Modules, String> {
    let mut modules = Modules::new();
    load_file(root, root.parent().unwrap_or(root), Vec::new(), &mut modules)?;
    for module in modules.values_mut() {
        if let Ok(file) = module.file.strip_prefix(base) {
            module.file = file.to_owned();
        }
    }
    Ok(modules)
}

fn load_file(
    file: &Path,
    folder: &Path,
    path: Vec<String>,
    modules: &mut Modules,
) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let parsed = syn::parse_file(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    load_items(&parsed.items, file, folder, path, modules)
}

/// Records a module. `folder` is where the files of its child modules are.
fn load_items(
    items: &[Item],
    file: &Path,
    folder: &Path,
    path: Vec<String>,
    modules: &mut Modules,
) -> Result<(), String> {
    let mut module = Module {
        path: path.clone(),
        file: file.to_owned(),
        items: BTreeSet::new(),
        types: Vec::new(),
        uses: Vec::new(),
        globs: Vec::new(),
        paths: BTreeSet::new(),
    };
    for item in items.iter().filter(|item| !is_test(attributes(item))) {
        if let Item::Mod(child) = item {
            let name = child.ident.to_string();
            let folder = folder.join(&name);
            let path: Vec<_> = path.iter().cloned().chain([name]).collect();
            if let Some((_, items)) = &child.content {
                load_items(items, file, &folder, path, modules)?;
            } else {
                let candidates = [folder.with_extension("rs"), folder.join("mod.rs")];
                let file = candidates.iter().find(|file| file.exists());
                let file = file.ok_or_else(|| format!("no file of {}", path.join("::")))?;
                load_file(file, &folder, path, modules)?;
            }
            continue;
        }
        if let Some(name) = name_of(item) {
            module.items.insert(name);
        }
        if let Item::Struct(_) | Item::Enum(_) | Item::Union(_) | Item::Trait(_) | Item::Type(_) =
            item
        {
            module.types.extend(name_of(item));
        }
        Visitor(&mut module).visit_item(item);
    }
    modules.insert(path, module);
    Ok(())
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Is the item compiled for tests alone?
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

struct Visitor<'a>(&'a mut Module);

impl Visitor<'_> {
    fn add_use(&mut self, tree: &UseTree, mut prefix: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.add_use(&path.tree, prefix);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_use(tree, prefix.clone()))
            }
            UseTree::Glob(_) => self.0.globs.push(prefix),
            UseTree::Name(name) => self.add_name(prefix, &name.ident, &name.ident),
            UseTree::Rename(rename) => self.add_name(prefix, &rename.ident, &rename.rename),
        }
    }

    fn add_name(&mut self, mut prefix: Vec<String>, name: &syn::Ident, bound: &syn::Ident) {
        let mut bound = bound.to_string();
        if name == "self" {
            bound = if bound == "self" { prefix.last().cloned().unwrap_or(bound) } else { bound };
        } else {
            prefix.push(name.to_string());
        }
        self.0.uses.push((bound, prefix));
    }

    /// Takes sequences such as `a::b::c` for paths, at any depth.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.0.paths.insert(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.0.paths.insert(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.0.paths.insert(path);
    }
}

fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_use(&item.tree, Vec::new());
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.paths.insert(names(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}
