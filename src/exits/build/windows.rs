/*! Convolutions, pools and what flattens: layers of channels×height×width. */

use super::{HeadBuilder, Trouble, shape_text, trouble};
use crate::model::op::{Binary, PoolKind, Reduction, Unary, Window};
use crate::model::{Activation, Dim, Op};

impl HeadBuilder<'_> {
    pub(super) fn image(&self, name: &str) -> Result<[usize; 3], Trouble> {
        match self.sample[..] {
            [c, h, w] => Ok([c, h, w]),
            _ => trouble(
                format!(
                    "{name} takes channels×height×width, not {}",
                    shape_text(&self.sample)
                ),
                "put it before the pooling, or leave it out",
            ),
        }
    }

    pub(super) fn fits(&self, window: &Window) -> Result<(), Trouble> {
        let fits = (0..2).all(|axis| {
            let extent = self.sample[axis + 1];
            window.output(axis, extent).is_some_and(|n| n > 0)
        });
        if fits {
            return Ok(());
        }
        let (kernel, shape) = (window.kernel[0], shape_text(&self.sample));
        trouble(
            format!("a window of {kernel}×{kernel} doesn't fit {shape}"),
            "take a smaller kernel, pad, or ask `{% if height >= … %}` first",
        )
    }

    pub(super) fn conv(
        &mut self,
        out: usize,
        window: Window,
        groups: usize,
        bias: bool,
    ) -> Result<(), Trouble> {
        self.fits(&window)?;
        let (cin, kernel) = (self.sample[0] / groups, window.kernel[0]);
        let fan_in = cin * kernel * kernel;
        let shape = [out, cin, kernel, kernel];
        let mut inputs = vec![self.drawn("weight", &shape, fan_in)?];
        if bias {
            inputs.push(self.filled("bias", &[out], 0.0));
        }
        let op = Op::Conv {
            window,
            groups,
            bias,
            residual: false,
            activation: Activation::NONE,
        };
        let params = out * fan_in + if bias { out } else { 0 };
        self.counted("", op, &inputs, params)?;
        let positions = self.sample[1] * self.sample[2];
        self.macs += (positions * out) as u64 * fan_in as u64;
        Ok(())
    }

    pub(super) fn pool(
        &mut self,
        name: &str,
        kind: PoolKind,
        window: Window,
    ) -> Result<(), Trouble> {
        self.image(name)?;
        self.fits(&window)?;
        if 2 * window.pads[0].0 > window.kernel[0] {
            return trouble(
                format!("a pad of {} is more than half the window", window.pads[0].0),
                "pad at most half of the kernel",
            );
        }
        let op = Op::Pool {
            kind,
            window,
            extra: vec![0; 2],
            column_major: false,
        };
        self.push("", op, &[])
    }

    pub(super) fn adaptive(&mut self, name: &str, out: usize) -> Result<(), Trouble> {
        let [_, h, w] = self.image(name)?;
        if h % out != 0 || w % out != 0 {
            let shape = shape_text(&self.sample);
            return trouble(
                format!("{shape} can't be divided into {out}×{out} equal windows"),
                "take a divisor of height and width, or AvgPool2d(kernel: …, stride: …)",
            );
        }
        let mut window = Window::square(h / out, h / out, 0);
        window.kernel[1] = w / out;
        window.strides[1] = w / out;
        let kind = PoolKind::Average {
            count_include_pad: true,
        };
        self.pool(name, kind, window)
    }

    pub(super) fn global(&mut self, average: bool) -> Result<(), Trouble> {
        match self.sample[..] {
            [_, _, _] => {
                self.push(".pool", Op::GlobalPool { average }, &[])?;
                self.flatten()
            }
            [_, _] => {
                let kind = if average {
                    Reduction::Mean
                } else {
                    Reduction::Max
                };
                let (axes, keep) = (vec![1], false);
                self.push("", Op::Reduce { kind, axes, keep }, &[])
            }
            _ => Ok(()),
        }
    }

    /// The generalised mean: `mean(max(x, ε)^p)^(1/p)`.
    pub(super) fn gem(&mut self, power: f32, epsilon: f32) -> Result<(), Trouble> {
        let floor = Unary::Clip {
            low: epsilon,
            high: f32::INFINITY,
        };
        self.push(".floor", Op::Unary(floor), &[])?;
        let raised = Op::Binary(Binary::Pow, Activation::NONE);
        let [by, root] = [("power", power), ("root", 1.0 / power)]
            .map(|(part, value)| self.filled(part, &[], value));
        self.push(".raised", raised.clone(), &[by])?;
        self.global(true)?;
        self.push(".mean", raised, &[root])
    }

    pub(super) fn flatten(&mut self) -> Result<(), Trouble> {
        if self.sample.len() == 1 {
            return Ok(());
        }
        let to = vec![Dim::Batch(1), Dim::Fixed(self.sample.iter().product())];
        self.push("", Op::Reshape { to }, &[])
    }
}
