//! Each kernel against a plain reference over random shapes, for every instruction set that runs
//! here. These tests know nothing of graphs: `scripts/test-neon` and `scripts/valgrind-kernels`
//! build them, with the kernels alone, for another processor or under a checker.
//!
//! `PROPTEST_CASES` sets how many cases each tries.

mod case;

use super::loops::{Fold, KernelTable, PANEL, Plane, WinogradTile};
use super::matmul::{Matrix, product};
use super::step::{self, Conv, ConvOperands, ConvParts, Plain, Sweep, Winograd};
use super::threads::{Pool, Team};
use crate::engine::{Cancel, Isa};
use case::{Case, Room, UNTOUCHED, case, pack, pixels, square};
use proptest::prelude::*;
use std::sync::Arc;

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

fn each_isa() -> impl Iterator<Item = (Isa, KernelTable)> {
    let all = Isa::ALL.into_iter();
    all.filter_map(|isa| Some((isa, isa.kernels()?)))
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

/// Runs a convolution three by three for each instruction set, by Winograd's products.
fn convolve_by_products(case: &Case, tile: WinogradTile) -> Result<(), TestCaseError> {
    let ([n, c, h, w], out) = (case.input(), case.output());
    let (weight, x) = (noise(case.wide * c * 9, 3), noise(n * c * h * w, 1));
    let (bias, added) = (noise(case.wide, 4), noise(out.iter().product(), 5));
    let mut want = case.convolution(&x, &weight, &bias, &added);
    // Rounding goes by the other pixels of a tile too, which at a border are larger.
    let largest = want.iter().fold(0.0, |m: f64, w| m.max(w.1));
    want.iter_mut().for_each(|w| w.1 = largest);
    let tensors = [
        pixels(0, case.input(), case.gap),
        pixels(1, out, (case.gap.1, 0)),
        pixels(2, out, case.gap),
    ];
    let [from, residual, to] = &tensors;
    let operands = case.operands(&tensors);
    let conv = Winograd::new(
        tile,
        ConvParts {
            plane: case.plane,
            samples: n,
            taps: vec![],
            run: c,
            groups: 1,
            channels: case.wide,
            packed: Arc::new(case.products(&weight, tile)),
            bias: case.bias_panels(&bias),
            clamp: case.clamp,
        },
    );
    for (isa, kernels) in each_isa() {
        let mut room = Room::new(&tensors);
        room.fill(from, &x);
        room.fill(residual, &added);
        with_team(case.threads, |team| {
            conv.run(&mut room.arena(), &operands, &kernels, team);
        });
        close(isa, &room.take(to), &want)?;
    }
    Ok(())
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
    let operands = case.operands(&tensors);
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
    for (isa, kernels) in each_isa() {
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
            conv.run(&mut room.arena(), &operands, &kernels, team);
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
    fn convolutions_by_products_are_their_definition(
        case in case(), extents in (1usize..25, 1usize..25), before in (0usize..3, 0usize..3),
        after in (0usize..3, 0usize..3), four in any::<bool>(),
    ) {
        let axis = |input: usize, before: usize, after: usize| {
            let input = input.max(3usize.saturating_sub(before + after));
            (input, input + before + after - 2)
        };
        let (y, x) = (axis(extents.0, before.0, after.0), axis(extents.1, before.1, after.1));
        let plane = Plane {
            input: [y.0, x.0],
            output: [y.1, x.1],
            pad: [before.0, before.1],
            ..square(1, 1, 1).plane
        };
        let tile = if four { WinogradTile::Four } else { WinogradTile::Two };
        convolve_by_products(&Case { plane, groups: 1, ..case }, tile)?;
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
        for (isa, kernels) in each_isa() {
            let mut room = Room::new(&tensors);
            room.fill(&tensors[0], &x);
            with_team(case.threads, |team| {
                sweep.run(&mut room.arena(), &tensors[0], &tensors[1], &kernels, team);
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
    for (isa, kernels) in each_isa() {
        let case = Case {
            plane: Plane {
                input: [1, 1],
                output: [1, 1],
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
            },
            wide: 20,
            ..square(1, 1, 1)
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
            let operands = ConvOperands {
                x: tensors[0],
                residual: None,
                y: tensors[1],
            };
            conv.run(&mut room.arena(), &operands, &kernels, team);
        });
        let got = room.take(&tensors[1]);
        assert!(got.iter().all(|y| y.is_nan()), "{isa:?}: {got:?}");
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
    for (isa, kernels) in each_isa() {
        // What one thread writes until its n-th look at the token: a tile at most for each.
        let written = |looks: usize| {
            let mut room = Room::new(&tensors);
            room.fill(&tensors[0], &noise(tensors[0].len(), 1));
            let (pool, cancel) = (Pool::shared(1), Cancel::at_look(looks));
            let team = Team {
                pool: &pool,
                cancel: &cancel,
            };
            let operands = ConvOperands {
                x: tensors[0],
                residual: None,
                y: tensors[1],
            };
            conv.run(&mut room.arena(), &operands, &kernels, team);
            let got = room.take(&tensors[1]);
            got.iter().filter(|&&y| y != UNTOUCHED).count()
        };
        let tile = kernels.height * kernels.panels * PANEL;
        for looks in [1, 2, 9, 40] {
            let written = written(looks);
            assert!(written <= looks * tile, "{isa:?}: {written} after {looks}");
        }
        assert!(written(40) > 0, "{isa:?}");
        assert_eq!(written(usize::MAX), tensors[1].len(), "{isa:?}");
    }
}
