/*! Residual networks: ResNet50, and the small ones for 32×32 images. */

use super::ZooError;
use super::net::{Conv, Net};
use crate::model::ValueId;

/// Where the last norm of each branch starts. At 1, sixteen branches add up to features so large that
/// the first steps throw the network off; Goyal et al. 2017, 5.1, start at 0, which leaves an
/// untrained network without branches.
const BRANCH: f32 = 0.25;

pub(super) fn resnet50(net: &mut Net, classes: usize) -> Result<(), ZooError> {
    let x = net.conv("conv1", net.x, Conv::same(64, 7, 2))?;
    let x = net.norm("bn1", x)?;
    let x = net.relu("relu", x)?;
    let mut x = net.pool("maxpool", x, true, 2, 1)?;
    for (stage, (blocks, channels)) in [(3, 64), (4, 128), (6, 256), (3, 512)]
        .into_iter()
        .enumerate()
    {
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let kinds = [
                (channels, 1, 1),
                (channels, 3, stride),
                (4 * channels, 1, 1),
            ];
            x = residual(net, &name, x, &kinds, block == 0, stride, BRANCH)?;
        }
    }
    net.x = net.classify("fc", x, classes)?;
    Ok(())
}

pub(super) fn small(
    net: &mut Net,
    classes: usize,
    depth: usize,
    width: usize,
) -> Result<(), ZooError> {
    let x = net.conv("conv1", net.x, Conv::same(width, 3, 1))?;
    let x = net.norm("bn1", x)?;
    let mut x = net.relu("relu", x)?;
    for stage in 0..3 {
        for block in 0..(depth - 2) / 6 {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let channels = width << stage;
            let kinds = [(channels, 3, stride), (channels, 3, 1)];
            x = residual(net, &name, x, &kinds, stride == 2, stride, 1.0)?;
        }
    }
    net.x = net.classify("fc", x, classes)?;
    Ok(())
}

/// A block of convolutions (channels, kernel, stride) beside a shortcut. The last norm of the branch
/// starts at `scale`.
fn residual(
    net: &mut Net,
    name: &str,
    x: ValueId,
    kinds: &[(usize, usize, usize)],
    downsample: bool,
    stride: usize,
    scale: f32,
) -> Result<ValueId, ZooError> {
    let mut y = x;
    let mut channels = 0;
    for (i, &(c, kernel, step)) in kinds.iter().enumerate() {
        let n = i + 1;
        channels = c;
        y = net.conv(&format!("{name}.conv{n}"), y, Conv::same(c, kernel, step))?;
        let last = n == kinds.len();
        y = net.scaled_norm(&format!("{name}.bn{n}"), y, if last { scale } else { 1.0 })?;
        if !last {
            y = net.relu(&format!("{name}.relu{n}"), y)?;
        }
    }
    let mut shortcut = x;
    if downsample {
        let conv = Conv::same(channels, 1, stride);
        shortcut = net.conv(&format!("{name}.downsample.0"), x, conv)?;
        shortcut = net.norm(&format!("{name}.downsample.1"), shortcut)?;
    }
    let sum = net.add(&format!("{name}.add"), y, shortcut)?;
    net.relu(&format!("{name}.relu"), sum)
}
