/*! The settings of a link and of the tensors that cross it. */

use crate::device::Form;
use serde::{Deserialize, Serialize};

/// How the elements of the split tensor travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display)]
#[allow(missing_docs)]
pub enum Element {
    #[default]
    F32,
    F16,
    /// Affine, scale and zero point per sample.
    U8,
}

/// Compression of the split tensor's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Compression {
    #[default]
    None,
    Lz4,
}

/// How the split tensor travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wire {
    /// Element type on the wire.
    pub tensor: Element,
    /// Compression of the tensor's bytes.
    pub compression: Compression,
}

/// Milliseconds of the longest round trip that is emulated.
pub const LONGEST_ROUND_TRIP_MS: f64 = 60e3;
/// Milliseconds of the longest deadline of an offload: a day.
pub const LONGEST_DEADLINE_MS: f64 = 86_400e3;
/// The most targets of a tier.
pub const MOST_TARGETS: usize = 16;

impl Wire {
    /// Every way a tensor can travel.
    pub const ALL: [Wire; 6] = {
        use {Compression as C, Element as E};
        const fn wire(tensor: E, compression: C) -> Wire {
            Wire {
                tensor,
                compression,
            }
        }
        [
            wire(E::F32, C::None),
            wire(E::F16, C::None),
            wire(E::U8, C::None),
            wire(E::F32, C::Lz4),
            wire(E::F16, C::Lz4),
            wire(E::U8, C::Lz4),
        ]
    };

    /// What a device's times of writing and reading such a tensor are kept under.
    pub fn form(self) -> Form {
        match (self.tensor, self.compression) {
            (Element::F32, Compression::None) => Form::F32,
            (Element::F16, Compression::None) => Form::F16,
            (Element::U8, Compression::None) => Form::U8,
            (Element::F32, Compression::Lz4) => Form::F32Lz4,
            (Element::F16, Compression::Lz4) => Form::F16Lz4,
            (Element::U8, Compression::Lz4) => Form::U8Lz4,
        }
    }
}

/// The link between edge and cloud, as the session writes it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Link {
    /// The link as measured, without emulation.
    #[default]
    Measured,
    /// Every byte paced, every round trip delayed; labelled emulated everywhere.
    Emulated {
        /// Rate in megabits (10⁶ bits) per second.
        mbit: f64,
        /// Round trip in milliseconds.
        rtt_ms: f64,
    },
}
