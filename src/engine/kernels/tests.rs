//! Each kernel against a plain reference over random shapes, for every instruction set that runs
//! here. These tests know nothing of graphs: `scripts/test-neon` and `scripts/valgrind-kernels`
//! build them, with the kernels alone, for another processor or under a checker.
//!
//! `PROPTEST_CASES` sets how many cases each tries.

use super::loops::{Fold, Loops, PANEL, Plane};
use super::matmul::{Matrix, product};
use super::memory::Memory;
use super::step::{self, Arena, Conv, ConvParts, Packed, Pixels, Plain, Sweep};
use super::threads::{Pool, Team};
use crate::engine::{Cancel, Isa};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// What must not be overwritten.
const UNTOUCHED: f32 = 12345.0;

fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.failure_persistence = None;
    config
}

fn noise(n: usize, seed: usize) -> Vec<f32> {
    let mix = |i: usize| ((i + seed * 7919).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32;
    (0..n).map(|i| mix(i) / (1 << 23) as f32 - 1.0).collect()
}

fn each_isa() -> impl Iterator<Item = (Isa, Loops)> {
    let all = Isa::ALL.into_iter();
    all.filter_map(|isa| Some((isa, Loops::of(isa)?)))
}

/// Tensors one after another in one block, each in a slot of exactly its size.
struct Room {
    memory: Memory,
    slots: Vec<Range<usize>>,
}

impl Room {
    fn new(tensors: &[Pixels]) -> Room {
        let mut end = 0;
        let mut slots = vec![];
        for t in tensors {
            let floats = match t.samples * t.height * t.width {
                0 => 0,
                n => t.offset + (n - 1) * t.stride + t.channels,
            };
            slots.push(end..end + floats * 4);
            end = (end + floats * 4).next_multiple_of(64);
        }
        let end = slots.last().map_or(0, |s| s.end);
        let mut memory = Memory::zeroed(end);
        bytemuck::cast_slice_mut::<u8, f32>(memory.bytes_mut()).fill(UNTOUCHED);
        Room { memory, slots }
    }

    fn arena(&mut self) -> Arena<'_> {
        Arena {
            memory: &mut self.memory,
            slots: &self.slots,
        }
    }

    fn floats(&mut self, t: &Pixels) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.memory.bytes_mut()[self.slots[t.slot].clone()])
    }

    /// Fills a tensor from plain (sample, channel, row, column) order.
    fn fill(&mut self, t: &Pixels, plain: &[f32]) {
        let floats = self.floats(t);
        for (i, &value) in plain.iter().enumerate() {
            floats[place(t, i)] = value;
        }
    }

    /// The tensor in plain order; fails where anything else of its slot was written to.
    fn take(&mut self, t: &Pixels) -> Vec<f32> {
        let floats = self.floats(t).to_vec();
        let mut own = vec![false; floats.len()];
        let plain = (0..t.len()).map(|i| {
            own[place(t, i)] = true;
            floats[place(t, i)]
        });
        let plain = plain.collect();
        let others = own.iter().zip(&floats).filter(|(own, _)| !**own);
        for (_, &value) in others {
            assert_eq!(value, UNTOUCHED, "written between pixels");
        }
        plain
    }
}

/// Where the `i`-th element in plain order lies.
fn place(t: &Pixels, i: usize) -> usize {
    let (x, y) = (i % t.width, i / t.width % t.height);
    let (c, n) = (
        i / (t.width * t.height) % t.channels,
        i / (t.width * t.height * t.channels),
    );
    t.offset + ((n * t.height + y) * t.width + x) * t.stride + c
}

fn pixels(slot: usize, dims: [usize; 4], gap: (usize, usize)) -> Pixels {
    let [samples, channels, height, width] = dims;
    Pixels {
        slot,
        offset: gap.0,
        stride: channels + gap.0 + gap.1,
        samples,
        height,
        width,
        channels,
    }
}

#[derive(Debug, Clone)]
struct Case {
    plane: Plane,
    samples: usize,
    channels: usize,
    wide: usize,
    groups: usize,
    /// Floats before and after a pixel's own.
    gap: (usize, usize),
    residual: bool,
    clamp: (f32, f32),
    threads: usize,
}

prop_compose! {
    /// Kernel, stride, dilation, padding before, input, output of one axis.
    fn axis(room: usize)(k in 1usize..5, s in 1usize..4, d in 1usize..3, before in 0usize..4,
              after in 0usize..4, more in 0..room) -> [usize; 6] {
        let reach = d * (k - 1) + 1;
        let (before, after) = (before.min(k - 1), after.min(k - 1));
        let input = (reach + more).saturating_sub(before + after).max(1);
        let output = (input + before + after - reach) / s + 1;
        [k, s, d, before, input, output]
    }
}

prop_compose! {
    fn plane()(y in axis(8), x in axis(20)) -> Plane {
        let both = |i: usize| [y[i], x[i]];
        Plane {
            kernel: both(0), stride: both(1), dilation: both(2), pad: both(3), input: both(4),
            output: both(5),
        }
    }
}

prop_compose! {
    fn case()(plane in plane(), samples in 1usize..10, cin in 1usize..71, cout in 1usize..71,
              grouped in any::<bool>(), groups in 2usize..5, gap in (0usize..4, 0usize..4),
              residual in any::<bool>(), clamped in any::<bool>(), threads in 1usize..5) -> Case {
        let groups = if grouped { groups } else { 1 };
        Case {
            plane, samples, groups, gap, residual, threads,
            channels: cin.div_ceil(groups) * groups,
            wide: cout.div_ceil(groups) * groups,
            clamp: if clamped { (0.0, 6.0) } else { (f32::NEG_INFINITY, f32::INFINITY) },
        }
    }
}

impl Case {
    fn input(&self) -> [usize; 4] {
        let [h, w] = self.plane.input;
        [self.samples, self.channels, h, w]
    }

    fn output(&self) -> [usize; 4] {
        let [h, w] = self.plane.output;
        [self.samples, self.wide, h, w]
    }

    /// Value and sum of magnitudes of each output, as the definition has them.
    fn convolution(&self, x: &[f32], w: &[f32], bias: &[f32], added: &[f32]) -> Vec<(f64, f64)> {
        let p = &self.plane;
        let ([_, cin, h, wd], [_, _, oh, ow]) = (self.input(), self.output());
        let (deep, per_group) = (cin / self.groups, self.wide / self.groups);
        let taps = p.kernel[0] * p.kernel[1];
        let mut y = vec![];
        for (i, added) in added.iter().enumerate() {
            let (ox, oy, o, n) = (
                i % ow,
                i / ow % oh,
                i / (ow * oh) % self.wide,
                i / (ow * oh * self.wide),
            );
            let mut sum = f64::from(bias[o]);
            let mut size = sum.abs();
            for c in 0..deep {
                for tap in 0..taps {
                    let (ky, kx) = (tap / p.kernel[1], tap % p.kernel[1]);
                    let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.pad[0]);
                    let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.pad[1]);
                    if iy < h && ix < wd {
                        let from = o / per_group * deep + c;
                        let term = f64::from(x[((n * cin + from) * h + iy) * wd + ix])
                            * f64::from(w[(o * deep + c) * taps + tap]);
                        sum += term;
                        size += term.abs();
                    }
                }
            }
            if self.residual {
                sum += f64::from(*added);
            }
            let (low, high) = (f64::from(self.clamp.0), f64::from(self.clamp.1));
            y.push((sum.max(low).min(high), size));
        }
        y
    }

    /// `[group][panel][tap][run][PANEL]`; a tap is one cell, or a whole kernel row.
    fn panels(&self, w: &[f32], by_rows: bool) -> Packed {
        let [kh, kw] = self.plane.kernel;
        let (deep, per_group) = (self.channels / self.groups, self.wide / self.groups);
        let (taps, run) = if by_rows {
            (kh, kw * deep)
        } else {
            (kh * kw, deep)
        };
        let mut floats = vec![];
        for group in 0..self.groups {
            for panel in 0..per_group.div_ceil(PANEL) {
                for tap in 0..taps {
                    for k in 0..run {
                        for lane in 0..PANEL {
                            let o = panel * PANEL + lane;
                            let (tap, c) = match by_rows {
                                true => (tap * kw + k / deep, k % deep),
                                false => (tap, k),
                            };
                            let at = ((group * per_group + o) * deep + c) * kh * kw + tap;
                            floats.push(if o < per_group { w[at] } else { 0.0 });
                        }
                    }
                }
            }
        }
        pack(&floats)
    }

    fn bias_panels(&self, bias: &[f32]) -> Arc<Vec<f32>> {
        let per_group = self.wide / self.groups;
        let rows = bias.chunks(per_group).flat_map(|row| {
            let mut row = row.to_vec();
            row.resize(per_group.next_multiple_of(PANEL), 0.0);
            row
        });
        Arc::new(rows.collect())
    }
}

fn pack(floats: &[f32]) -> Packed {
    let mut weights = Memory::zeroed(floats.len() * 4);
    bytemuck::cast_slice_mut::<u8, f32>(weights.bytes_mut()).copy_from_slice(floats);
    Packed {
        weights,
        floats: floats.len(),
    }
}

fn close(isa: Isa, got: &[f32], want: &[(f64, f64)]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    for (i, (&g, &(w, size))) in got.iter().zip(want).enumerate() {
        let off = (f64::from(g) - w).abs();
        prop_assert!(
            off <= 1e-5 * size + 1e-6,
            "{:?}: {} is {} for {}",
            isa,
            i,
            g,
            w
        );
    }
    Ok(())
}

fn with_team<R>(threads: usize, f: impl FnOnce(Team<'_>) -> R) -> R {
    let (pool, cancel) = (Pool::shared(threads), Cancel::new());
    f(Team {
        pool: &pool,
        cancel: &cancel,
    })
}

/// Runs a convolution for each instruction set, by cells or by kernel rows.
fn convolve(case: &Case, by_rows: bool) -> Result<(), TestCaseError> {
    let ([n, c, h, w], out) = (case.input(), case.output());
    let [kh, kw] = case.plane.kernel;
    let weight = noise(case.wide * c / case.groups * kh * kw, 3);
    let x = noise(n * c * h * w, 1);
    let (bias, added) = (noise(case.wide, 4), noise(out.iter().product(), 5));
    let want = case.convolution(&x, &weight, &bias, &added);
    let packed = Arc::new(case.panels(&weight, by_rows));
    let mut plane = case.plane;
    let gap = if by_rows { (0, 0) } else { case.gap };
    let mut dims = case.input();
    if by_rows {
        // The padding becomes part of the tensor, as far as the last window reaches.
        let reach = |a: usize| {
            (plane.output[a] - 1) * plane.stride[a] + plane.dilation[a] * (plane.kernel[a] - 1) + 1
        };
        plane.input = [0, 1].map(|a| reach(a).max(plane.input[a] + plane.pad[a]));
        (dims[2], dims[3]) = (plane.input[0], plane.input[1]);
    }
    let pad = (plane.pad[0], plane.pad[1]);
    if by_rows {
        plane.pad = [0, 0];
    }
    let tensors = [
        pixels(0, dims, gap),
        pixels(1, out, (case.gap.1, 0)),
        pixels(2, out, case.gap),
    ];
    let [from, residual, to] = &tensors;
    let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx)));
    let conv = Conv::new(ConvParts {
        plane,
        samples: n,
        taps: taps.filter(|&(_, kx)| !by_rows || kx == 0).collect(),
        run: c / case.groups * if by_rows { kw } else { 1 },
        groups: case.groups,
        channels: case.wide / case.groups,
        packed,
        bias: case.bias_panels(&bias),
        clamp: case.clamp,
    });
    for (isa, loops) in each_isa() {
        let mut room = Room::new(&tensors);
        if !by_rows {
            room.fill(from, &x);
        }
        room.fill(residual, &added);
        with_team(case.threads, |team| {
            if by_rows {
                let plain = Plain::Outside(&x);
                step::to_pixels(&mut room.arena(), plain, (h, w), from, pad, team);
            }
            let residual = case.residual.then_some(residual);
            conv.run(&mut room.arena(), from, residual, to, &loops, team);
        });
        close(isa, &room.take(to), &want)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn convolutions_are_their_definition(case in case()) {
        convolve(&case, false)?;
    }

    #[test]
    fn first_layers_by_rows_are_their_definition(case in case(), channels in 1usize..5) {
        let mut case = Case { channels, groups: 1, ..case };
        // Rows are contiguous runs, which a dilation along them would not be.
        let p = &mut case.plane;
        p.dilation[1] = 1;
        let room = p.output[1].max(1) - 1;
        p.input[1] = (room * p.stride[1] + p.kernel[1]).saturating_sub(p.pad[1]).max(1);
        prop_assume!(p.input[1] + p.pad[1] >= p.kernel[1]);
        p.output[1] = (p.input[1] + p.pad[1] - p.kernel[1]) / p.stride[1] + 1;
        convolve(&case, true)?;
    }

    #[test]
    fn windows_are_their_definition(case in case(), kind in 0usize..4, three in 0usize..4) {
        let mut case = case;
        if three > 0 {
            // Three columns with the usual strides have loops of their own.
            let p = &mut case.plane;
            (p.kernel[1], p.dilation[1], p.stride[1]) = (3, 1, three.min(2));
            p.pad[1] = p.pad[1].min(2);
            p.input[1] = p.input[1].max(3);
            p.output[1] = (p.input[1] + p.pad[1] - 3) / p.stride[1] + 1;
        }
        let p = case.plane;
        let reaches = |a: usize| (0..p.output[a]).all(|o| {
            let (first, end) = p.taps(a, o);
            first < end
        });
        // The lowering gives the kernel no pool with a window that lies in the padding.
        prop_assume!(kind == 0 || (reaches(0) && reaches(1)));
        (case.wide, case.groups) = (case.channels, case.channels);
        case.residual = false;
        let [n, c, h, w] = case.input();
        let x = noise(n * c * h * w, 1);
        let taps = p.kernel[0] * p.kernel[1];
        let (weight, bias) = (noise(c * taps, 3), noise(c, 4));
        let (fold, want) = if kind == 0 {
            let fold = Fold::Weigh { low: case.clamp.0, high: case.clamp.1 };
            (fold, case.convolution(&x, &weight, &bias, &vec![0.0; case.output().iter().product()]))
        } else {
            let fold = [Fold::Max, Fold::Mean, Fold::MeanOf(taps as f32)][kind - 1];
            let cells = |i: usize| {
                let [_, _, oh, ow] = case.output();
                let (ox, oy, plane) = (i % ow, i / ow % oh, i / (ow * oh));
                let (rows, columns) = (p.taps(0, oy), p.taps(1, ox));
                let at = move |ky: usize, kx: usize| {
                    let iy = oy * p.stride[0] + ky * p.dilation[0] - p.pad[0];
                    (plane * h + iy) * w + ox * p.stride[1] + kx * p.dilation[1] - p.pad[1]
                };
                let cells = (rows.0..rows.1).flat_map(move |ky| {
                    (columns.0..columns.1).map(move |kx| at(ky, kx))
                });
                cells.map(|at| f64::from(x[at])).collect::<Vec<f64>>()
            };
            let value = |cells: Vec<f64>| match fold {
                Fold::Max => cells.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Fold::MeanOf(n) => cells.iter().sum::<f64>() / f64::from(n),
                _ => cells.iter().sum::<f64>() / cells.len() as f64,
            };
            let count = case.output().iter().product();
            (fold, (0..count).map(|i| (value(cells(i)), 1.0)).collect())
        };
        let by_tap = (0..taps * c).map(|i| weight[i % c * taps + i / c]).collect::<Vec<_>>();
        let packed = (kind == 0).then(|| (Arc::new(pack(&by_tap)), Arc::new(bias)));
        let sweep = Sweep { plane: p, fold, packed };
        let tensors = [pixels(0, case.input(), case.gap), pixels(1, case.output(), case.gap)];
        for (isa, loops) in each_isa() {
            let mut room = Room::new(&tensors);
            room.fill(&tensors[0], &x);
            with_team(case.threads, |team| {
                sweep.run(&mut room.arena(), &tensors[0], &tensors[1], &loops, team);
            });
            close(isa, &room.take(&tensors[1]), &want)?;
        }
    }

    #[test]
    fn layouts_change_and_back(dims in (1usize..10, 1usize..71, 1usize..12, 1usize..12),
                               gap in (0usize..4, 0usize..4), pad in (0usize..3, 0usize..3),
                               more in (0usize..3, 0usize..3), threads in 1usize..5) {
        let (n, c, h, w) = dims;
        let x = noise(n * c * h * w, 2);
        let bordered = pixels(0, [n, c, h + pad.0 + more.0, w + pad.1 + more.1], gap);
        let tight = pixels(1, [n, c, h, w], (gap.1, gap.0));
        let again = pixels(2, [n, c, h, w], gap);
        let flat = pixels(3, [1, 1, 1, x.len()], (0, 0));
        let mut room = Room::new(&[bordered, tight, again, flat]);
        let mut out = vec![0.0; x.len()];
        with_team(threads, |team| {
            let arena = &mut room.arena();
            step::to_pixels(arena, Plain::Outside(&x), (h, w), &bordered, pad, team);
            step::to_pixels(arena, Plain::Outside(&x), (h, w), &tight, (0, 0), team);
            step::copy_pixels(arena, &tight, &again, team);
            step::from_pixels(arena, &again, &mut out, team);
            step::from_pixels_into(arena, &again, flat.slot, team);
        });
        prop_assert_eq!(&room.take(&tight), &x);
        prop_assert_eq!(&out, &x);
        prop_assert_eq!(&room.take(&flat), &x);
        let (rows, columns) = (bordered.height, bordered.width);
        for (i, &got) in room.take(&bordered).iter().enumerate() {
            let (ix, iy) = ((i % columns).wrapping_sub(pad.1), (i / columns % rows).wrapping_sub(pad.0));
            let plane = i / (rows * columns);
            let want = if ix < w && iy < h { x[(plane * h + iy) * w + ix] } else { 0.0 };
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn products_are_their_definition(m in 1usize..40, k in 0usize..71, n in 1usize..71,
                                     turned in any::<(bool, bool)>()) {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let stride = |turned, rows, columns| if turned { (1, rows) } else { (columns, 1) };
        let (sa, sb) = (stride(turned.0, m, k), stride(turned.1, k, n));
        let mut y = vec![UNTOUCHED; m * n];
        // In two halves, of the rows and of the columns.
        let (a_all, b_all) = (Matrix::new(&a, m, k, sa), Matrix::new(&b, k, n, sb));
        let (top, left) = (m / 2, n / 2);
        for (rows, count) in [(0, top), (top, m - top)] {
            for (columns, wide) in [(0, left), (left, n - left)] {
                let mut part = vec![UNTOUCHED; count * wide];
                product(a_all.rows(rows, count), b_all.columns(columns, wide), &mut part);
                for (i, part) in part.into_iter().enumerate() {
                    y[(rows + i / wide) * n + columns + i % wide] = part;
                }
            }
        }
        let want = |i: usize| {
            let terms = (0..k).map(|j| {
                f64::from(a[i / n * sa.0 + j * sa.1]) * f64::from(b[j * sb.0 + i % n * sb.1])
            });
            terms.fold((0.0, 0.0), |(sum, size), t: f64| (sum + t, size + t.abs()))
        };
        close(Isa::Portable, &y, &(0..m * n).map(want).collect::<Vec<_>>())?;
    }

    #[test]
    fn pieces_cover_everything_once(total in 0usize..3000, len in 0usize..700, threads in 1usize..5) {
        let mut y = vec![0usize; total];
        with_team(threads, |team| {
            team.pieces(&mut y, len, |item, piece| {
                for (i, y) in piece.iter_mut().enumerate() {
                    *y += item * len.max(1) + i + 1;
                }
            });
        });
        prop_assert_eq!(y, (1..=total).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_is_not_a_number_but_passes_through_a_clamp_as_its_bound() {
    // min(high, max(low, NaN)): every instruction set gives the same, and no trap.
    for (isa, loops) in each_isa() {
        let case = Case {
            plane: Plane {
                input: [1, 1],
                output: [1, 1],
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
            },
            samples: 1,
            channels: 1,
            wide: 20,
            groups: 1,
            gap: (0, 0),
            residual: false,
            clamp: (f32::NEG_INFINITY, f32::INFINITY),
            threads: 1,
        };
        let conv = Conv::new(ConvParts {
            plane: case.plane,
            samples: 1,
            taps: vec![(0, 0)],
            run: 1,
            groups: 1,
            channels: 20,
            packed: Arc::new(case.panels(&[1.0; 20], false)),
            bias: case.bias_panels(&[0.0; 20]),
            clamp: case.clamp,
        });
        let tensors = [
            pixels(0, case.input(), (0, 0)),
            pixels(1, case.output(), (0, 0)),
        ];
        let mut room = Room::new(&tensors);
        room.fill(&tensors[0], &[f32::NAN]);
        with_team(1, |team| {
            conv.run(
                &mut room.arena(),
                &tensors[0],
                None,
                &tensors[1],
                &loops,
                team,
            );
        });
        let got = room.take(&tensors[1]);
        assert!(got.iter().all(|y| y.is_nan()), "{isa:?}: {got:?}");
    }
}

/// The plainest case: as many samples, channels and outputs, a map of `side`, three by three.
fn square(side: usize, samples: usize, channels: usize) -> Case {
    Case {
        plane: Plane {
            input: [side; 2],
            output: [side; 2],
            kernel: [3; 2],
            stride: [1; 2],
            dilation: [1; 2],
            pad: [1; 2],
        },
        samples,
        channels,
        wide: channels,
        groups: 1,
        gap: (0, 0),
        residual: false,
        clamp: (f32::NEG_INFINITY, f32::INFINITY),
        threads: 1,
    }
}

#[test]
fn a_stop_leaves_the_tiles_that_were_not_begun() {
    let case = square(20, 3, 70);
    let weight = noise(70 * 70 * 9, 3);
    let conv = Conv::new(ConvParts {
        plane: case.plane,
        samples: 3,
        taps: (0..9).map(|tap| (tap / 3, tap % 3)).collect(),
        run: 70,
        groups: 1,
        channels: 70,
        packed: Arc::new(case.panels(&weight, false)),
        bias: case.bias_panels(&[0.0; 70]),
        clamp: case.clamp,
    });
    let tensors = [
        pixels(0, case.input(), (0, 0)),
        pixels(1, case.output(), (0, 0)),
    ];
    for (isa, loops) in each_isa() {
        // What one thread writes until its n-th look at the token: a tile at most for each.
        let written = |looks: usize| {
            let mut room = Room::new(&tensors);
            room.fill(&tensors[0], &noise(tensors[0].len(), 1));
            let (pool, cancel) = (Pool::shared(1), Cancel::at_look(looks));
            let team = Team {
                pool: &pool,
                cancel: &cancel,
            };
            conv.run(
                &mut room.arena(),
                &tensors[0],
                None,
                &tensors[1],
                &loops,
                team,
            );
            let got = room.take(&tensors[1]);
            got.iter().filter(|&&y| y != UNTOUCHED).count()
        };
        let tile = loops.height * loops.panels * PANEL;
        for looks in [1, 2, 9, 40] {
            let written = written(looks);
            assert!(written <= looks * tile, "{isa:?}: {written} after {looks}");
        }
        assert!(written(40) > 0, "{isa:?}");
        assert_eq!(written(usize::MAX), tensors[1].len(), "{isa:?}");
    }
}
