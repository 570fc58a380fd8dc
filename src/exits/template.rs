/*! The head sources that ship with the program. */

use serde::Serialize;

/// A head source that ships with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Template {
    /// Name by which a session refers to the template.
    pub name: &'static str,
    /// The source; its first comment says when to use it.
    pub source: &'static str,
}

impl Template {
    /// What its first comment says.
    pub fn says(&self) -> String {
        let lines = self.source.lines();
        let comment = lines.map_while(|l| l.strip_prefix("//"));
        let words: Vec<&str> = comment.map(str::trim).collect();
        words.join(" ")
    }
}

macro_rules! shipped {
    ($name:literal) => {
        Template {
            name: $name,
            source: include_str!(concat!("../../assets/exits/", $name, ".ron.j2")),
        }
    };
}

/// The sources that ship with the program; the replica, which is made of a network, is none of them.
pub const TEMPLATES: &[Template] = &[
    shipped!("linear-probe"),
    shipped!("gap-mlp"),
    shipped!("conv-pool"),
    shipped!("se"),
    shipped!("depthwise-separable"),
    shipped!("attention-pool"),
    shipped!("branchynet"),
    shipped!("shallow-deep"),
];

/// Named blocks to import into a source of one's own; no head by itself.
pub const BLOCKS: Template = shipped!("blocks");
