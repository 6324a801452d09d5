//! The maps that an agent before this one left pinned: looked at before anything is built on them. Changes nothing.

use crate::KernelError;
use aya::maps::MapInfo;
use aya_obj::Object;
use std::{io, path::Path};

/// What makes two maps interchangeable: type, size of a key and of a value in bytes, and number of entries.
type Shape = (u32, u32, u32, u32);

/// Checks that each map in `folder` that bears a name of the object's is what the object expects: a pin that a program
/// cannot use would otherwise be found by the verifier, whose words help nobody.
///
/// # Errors
/// `Unfit` for the first that is not, `Object` when `object` cannot be read.
pub(crate) fn check(folder: &Path, object: &[u8], names: &[&'static str]) -> Result<(), KernelError> {
    let object = Object::parse(object).map_err(|source| KernelError::Object(Box::new(source)))?;
    for name in names {
        let path = folder.join(name);
        let Some(map) = object.maps.get(*name) else { return Err(KernelError::Missing(name)) };
        if !path.exists() {
            continue;
        }
        let wanted: Shape = (map.map_type(), map.key_size(), map.value_size(), map.max_entries());
        let found = shape_of(&path);
        if !matches!(found, Ok(found) if found == wanted) {
            let found = match found {
                Ok((kind, key, value, entries)) => {
                    format!("type {kind}, keys of {key} B, values of {value} B, {entries} entries")
                }
                Err(error) => format!("no map ({error})"),
            };
            return Err(KernelError::Unfit { path, found });
        }
    }
    Ok(())
}

fn shape_of(path: &Path) -> io::Result<Shape> {
    let info = MapInfo::from_pin(path).map_err(io::Error::other)?;
    let kind = info.map_type().map_err(io::Error::other)?;
    Ok((kind as u32, info.key_size(), info.value_size(), info.max_entries()))
}
