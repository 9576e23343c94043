//! The body of PROPPATCH (RFC 4918, sections 9.2 and 14.19).

use relais_proto::{PropertyName, limits};

use crate::error::DavError;
use crate::limits::{BODY_MAX, PROPERTIES_MAX};
use crate::xml::element::Element;
use crate::xml::parse::parse;

/// What a client wants done with one property (RFC 4918, section 9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Sets a property.
    Set {
        /// The name.
        name: PropertyName,
        /// The whole element, with the namespaces and the language that it needs.
        xml: String,
        /// The text of the element without escapes.
        text: String,
    },
    /// Removes a property, if it is there.
    Remove(PropertyName),
}

impl Instruction {
    /// Returns the name of the property.
    #[must_use]
    pub fn name(&self) -> &PropertyName {
        match self {
            Self::Set { name, .. } | Self::Remove(name) => name,
        }
    }
}

/// The instructions of a PROPPATCH in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyUpdate {
    /// The instructions; at least one.
    pub instructions: Vec<Instruction>,
}

impl PropertyUpdate {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 if the body is no PROPPATCH, 413 if it exceeds a cap, 415 for an unknown encoding.
    pub fn parse(body: &[u8]) -> Result<Self, DavError> {
        let root = parse(body)?;
        if !root.is_dav("propertyupdate") {
            return Err(DavError::syntax("the body of PROPPATCH is no propertyupdate"));
        }
        let mut reader = Instructions::default();
        for action in root.elements() {
            let is_set = action.is_dav("set");
            if !is_set && !action.is_dav("remove") {
                continue;
            }
            for prop in action.elements().filter(|child| child.is_dav("prop")) {
                for property in prop.elements() {
                    reader.add(is_set, property, &[&root, action, prop])?;
                }
            }
        }
        if reader.list.is_empty() {
            return Err(DavError::syntax("the body of PROPPATCH changes no property"));
        }
        Ok(Self { instructions: reader.list })
    }
}

/// The instructions so far, and the bytes of their properties.
#[derive(Default)]
struct Instructions {
    list: Vec<Instruction>,
    bytes: usize,
}

impl Instructions {
    fn add(
        &mut self,
        is_set: bool,
        property: &Element,
        around: &[&Element],
    ) -> Result<(), DavError> {
        if self.list.len() == PROPERTIES_MAX {
            return Err(DavError::too_large("the body names too many properties"));
        }
        let name = property.name.clone();
        if !is_set {
            self.list.push(Instruction::Remove(name));
            return Ok(());
        }
        let xml = property.fragment(around);
        self.bytes = self.bytes.saturating_add(xml.len());
        if xml.len() > limits::PROPERTY_VALUE || self.bytes > BODY_MAX {
            return Err(DavError::too_large("a property has more than 32 KiB"));
        }
        let text = property.text();
        self.list.push(Instruction::Set { name, xml, text });
        Ok(())
    }
}
