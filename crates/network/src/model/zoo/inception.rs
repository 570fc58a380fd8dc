/*! InceptionV3, without its auxiliary head. */

use super::ZooError;
use super::net::{Conv, Net};
use crate::model::ValueId;

type Made = Result<ValueId, ZooError>;

/// One convolution of a block: name, channels, kernel (height, width), stride, and whether padded.
type Step = (&'static str, usize, (usize, usize), usize, bool);

const fn point(name: &'static str, channels: usize) -> Step {
    (name, channels, (1, 1), 1, true)
}

pub(super) fn inception_v3(net: &mut Net, classes: usize) -> Result<(), ZooError> {
    net.epsilon = 1e-3;
    let mut x = net.x;
    x = unit(net, "Conv2d_1a_3x3", x, 32, (3, 3), 2, false)?;
    x = unit(net, "Conv2d_2a_3x3", x, 32, (3, 3), 1, false)?;
    x = unit(net, "Conv2d_2b_3x3", x, 64, (3, 3), 1, true)?;
    x = net.pool("maxpool1", x, true, 2, 0)?;
    x = unit(net, "Conv2d_3b_1x1", x, 80, (1, 1), 1, true)?;
    x = unit(net, "Conv2d_4a_3x3", x, 192, (3, 3), 1, false)?;
    x = net.pool("maxpool2", x, true, 2, 0)?;
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        let a = chain(net, name, x, &[point("branch1x1", 64)])?;
        let b = [
            point("branch5x5_1", 48),
            ("branch5x5_2", 64, (5, 5), 1, true),
        ];
        let b = chain(net, name, x, &b)?;
        let c = [
            point("branch3x3dbl_1", 64),
            ("branch3x3dbl_2", 96, (3, 3), 1, true),
            ("branch3x3dbl_3", 96, (3, 3), 1, true),
        ];
        let c = chain(net, name, x, &c)?;
        let d = pooled_branch(net, name, x, pooled)?;
        x = net.concat(name, &[a, b, c, d])?;
    }
    x = {
        let name = "Mixed_6a";
        let a = chain(net, name, x, &[("branch3x3", 384, (3, 3), 2, false)])?;
        let b = [
            point("branch3x3dbl_1", 64),
            ("branch3x3dbl_2", 96, (3, 3), 1, true),
            ("branch3x3dbl_3", 96, (3, 3), 2, false),
        ];
        let b = chain(net, name, x, &b)?;
        let c = net.pool("Mixed_6a.maxpool", x, true, 2, 0)?;
        net.concat(name, &[a, b, c])?
    };
    x = seventeen(net, x)?;
    net.x = net.classify("fc", x, classes)?;
    Ok(())
}

/// Blocks Mixed_6b to Mixed_7c: grids of 17×17 and 8×8 for an input of 299×299.
fn seventeen(net: &mut Net, mut x: ValueId) -> Made {
    for (name, c7) in [
        ("Mixed_6b", 128),
        ("Mixed_6c", 160),
        ("Mixed_6d", 160),
        ("Mixed_6e", 192),
    ] {
        let a = chain(net, name, x, &[point("branch1x1", 192)])?;
        let b = [
            point("branch7x7_1", c7),
            ("branch7x7_2", c7, (1, 7), 1, true),
            ("branch7x7_3", 192, (7, 1), 1, true),
        ];
        let b = chain(net, name, x, &b)?;
        let c = [
            point("branch7x7dbl_1", c7),
            ("branch7x7dbl_2", c7, (7, 1), 1, true),
            ("branch7x7dbl_3", c7, (1, 7), 1, true),
            ("branch7x7dbl_4", c7, (7, 1), 1, true),
            ("branch7x7dbl_5", 192, (1, 7), 1, true),
        ];
        let c = chain(net, name, x, &c)?;
        let d = pooled_branch(net, name, x, 192)?;
        x = net.concat(name, &[a, b, c, d])?;
    }
    x = {
        let name = "Mixed_7a";
        let a = [
            point("branch3x3_1", 192),
            ("branch3x3_2", 320, (3, 3), 2, false),
        ];
        let a = chain(net, name, x, &a)?;
        let b = [
            point("branch7x7x3_1", 192),
            ("branch7x7x3_2", 192, (1, 7), 1, true),
            ("branch7x7x3_3", 192, (7, 1), 1, true),
            ("branch7x7x3_4", 192, (3, 3), 2, false),
        ];
        let b = chain(net, name, x, &b)?;
        let c = net.pool("Mixed_7a.maxpool", x, true, 2, 0)?;
        net.concat(name, &[a, b, c])?
    };
    for name in ["Mixed_7b", "Mixed_7c"] {
        let a = chain(net, name, x, &[point("branch1x1", 320)])?;
        let b = chain(net, name, x, &[point("branch3x3_1", 384)])?;
        let b1 = chain(net, name, b, &[("branch3x3_2a", 384, (1, 3), 1, true)])?;
        let b2 = chain(net, name, b, &[("branch3x3_2b", 384, (3, 1), 1, true)])?;
        let c = [
            point("branch3x3dbl_1", 448),
            ("branch3x3dbl_2", 384, (3, 3), 1, true),
        ];
        let c = chain(net, name, x, &c)?;
        let c1 = chain(net, name, c, &[("branch3x3dbl_3a", 384, (1, 3), 1, true)])?;
        let c2 = chain(net, name, c, &[("branch3x3dbl_3b", 384, (3, 1), 1, true)])?;
        let d = pooled_branch(net, name, x, 192)?;
        x = net.concat(name, &[a, b1, b2, c1, c2, d])?;
    }
    Ok(x)
}

fn chain(net: &mut Net, block: &str, x: ValueId, steps: &[Step]) -> Made {
    steps
        .iter()
        .try_fold(x, |x, &(name, channels, kernel, stride, padded)| {
            unit(
                net,
                &format!("{block}.{name}"),
                x,
                channels,
                kernel,
                stride,
                padded,
            )
        })
}

fn pooled_branch(net: &mut Net, block: &str, x: ValueId, channels: usize) -> Made {
    let x = net.pool(&format!("{block}.avgpool"), x, false, 1, 1)?;
    chain(net, block, x, &[point("branch_pool", channels)])
}

fn unit(
    net: &mut Net,
    name: &str,
    x: ValueId,
    channels: usize,
    kernel: (usize, usize),
    stride: usize,
    padded: bool,
) -> Made {
    let pad = if padded {
        (kernel.0 / 2, kernel.1 / 2)
    } else {
        (0, 0)
    };
    let conv = Conv {
        channels,
        kernel,
        stride,
        pad,
        groups: 1,
    };
    let x = net.conv(&format!("{name}.conv"), x, conv)?;
    let x = net.norm(&format!("{name}.bn"), x)?;
    net.relu(&format!("{name}.relu"), x)
}
