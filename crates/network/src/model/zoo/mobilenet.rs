/*! MobileNetV2. */

use super::ZooError;
use super::net::{Conv, Net};
use crate::model::ValueId;

/// Channels are kept divisible by 8, and never fall by more than a tenth through rounding.
fn rounded(channels: f32) -> usize {
    let nearest = (((channels + 4.0) / 8.0).floor() as usize * 8).max(8);
    if (nearest as f32) < 0.9 * channels {
        nearest + 8
    } else {
        nearest
    }
}

pub(super) fn mobilenet_v2(net: &mut Net, classes: usize, width: f32) -> Result<(), ZooError> {
    let stem = Conv::same(rounded(32.0 * width), 3, 2);
    let mut x = unit(net, "features.0", net.x, stem)?;
    let mut at = 1;
    // Expansion, channels, repeats, stride: table 2 of the paper.
    let stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    for (expansion, channels, repeats, stride) in stages {
        let channels = rounded(channels as f32 * width);
        for block in 0..repeats {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("features.{at}");
            let before = net.channels(x);
            let mut y = x;
            let mut part = 0;
            if expansion > 1 {
                let conv = Conv::same(before * expansion, 1, 1);
                y = unit(net, &format!("{name}.conv.0"), y, conv)?;
                part = 1;
            }
            let mut depthwise = Conv::same(before * expansion, 3, stride);
            depthwise.groups = before * expansion;
            y = unit(net, &format!("{name}.conv.{part}"), y, depthwise)?;
            let project = Conv::same(channels, 1, 1);
            y = net.conv(&format!("{name}.conv.{}", part + 1), y, project)?;
            y = net.norm(&format!("{name}.conv.{}", part + 2), y)?;
            if stride == 1 && before == channels {
                y = net.add(&format!("{name}.add"), x, y)?;
            }
            x = y;
            at += 1;
        }
    }
    let last = Conv::same(rounded(1280.0 * width.max(1.0)), 1, 1);
    x = unit(net, &format!("features.{at}"), x, last)?;
    net.x = net.classify("classifier.1", x, classes)?;
    Ok(())
}

fn unit(net: &mut Net, name: &str, x: ValueId, conv: Conv) -> Result<ValueId, ZooError> {
    let x = net.conv(&format!("{name}.0"), x, conv)?;
    let x = net.norm(&format!("{name}.1"), x)?;
    net.relu6(&format!("{name}.2"), x)
}
