/*! Values held within bounds, as an activation asks. */

use crate::model::Activation;
use candle_core::{Result, Tensor};

/// Clamps every element: `min(max(x, low), high)`.
pub(super) fn clamp(x: &Tensor, to: Activation) -> Result<Tensor> {
    let mut y = x.clone();
    if to.low == 0.0 {
        y = y.relu()?;
    } else if to.low > f32::NEG_INFINITY {
        y = y.maximum(to.low)?;
    }
    if to.high < f32::INFINITY {
        y = y.minimum(to.high)?;
    }
    Ok(y)
}
