/*! The `--data` argument, the same for every command that takes images. */

use crate::data::Source;
use std::path::Path;
use std::str::FromStr;

/// Where images come from: `synthetic`, `synthetic:7`, or a folder or file, told by what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataArg(pub Source);

impl FromStr for DataArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "synthetic" {
            return Ok(DataArg(Source::Synthetic { seed: 7 }));
        }
        if let Some(seed) = text.strip_prefix("synthetic:") {
            let seed = seed.parse().map_err(|_| "write synthetic:7")?;
            return Ok(DataArg(Source::Synthetic { seed }));
        }
        let path = Path::new(text);
        if !path.exists() {
            return Err("no such file or folder; name one, or write synthetic".into());
        }
        Ok(DataArg(Source::recognise(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn the_synthetic_set_has_a_seed() {
        let read = |text: &str| text.parse::<DataArg>();
        assert_eq!(read("synthetic"), read("synthetic:7"));
        assert_eq!(
            read("synthetic:3").unwrap().0,
            Source::Synthetic { seed: 3 }
        );
        assert!(read("synthetic:x").is_err() && read("/no/such/folder").is_err());
    }
}
