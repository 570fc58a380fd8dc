use super::kernels::memory::Memory;
use super::*;
use crate::backend::{Backend, Candle, CandleDevice, CompileOptions, Compiled};
use crate::model::op::{Op, PoolKind, Window};
use crate::model::{Activation, Builder, Constant, DType, Data, Dim, Shape};
use pretty_assertions::assert_eq;

fn single(op: Op, inputs: &[Constant], out: (DType, &[usize])) -> Result<Constant, EngineError> {
    let mut b = Builder::new("one");
    let ids: Vec<_> = (0..inputs.len())
        .map(|i| {
            b.value(
                &format!("x{i}"),
                inputs[i].dtype(),
                Shape::fixed(&inputs[i].shape),
            )
        })
        .collect();
    let y = b.node("y", op, &ids, Shape::fixed(out.1), 0);
    b.output(y);
    let mut graph = b.finish();
    graph.inputs = ids;
    graph.values[y.0 as usize].dtype = out.0;
    let engine = Engine::new(graph, &Options::default())?;
    Ok(engine.infer(inputs, &Cancel::new())?.remove(0))
}

/// Small whole numbers, so that sums are exact in any order.
fn numbers(shape: &[usize], seed: u32) -> Constant {
    let n = shape.iter().product::<usize>() as u32;
    let value = |i: u32| ((i.wrapping_add(seed).wrapping_mul(2654435761) >> 20) % 9) as f32 - 4.0;
    Constant::f32(shape, (0..n).map(value).collect())
}

#[test]
fn a_grouped_dilated_uneven_convolution_matches_its_definition() {
    let (x, w) = (numbers(&[2, 4, 7, 6], 1), numbers(&[6, 2, 3, 2], 2));
    let bias = numbers(&[6], 3);
    let window = Window {
        kernel: vec![3, 2],
        strides: vec![2, 1],
        dilations: vec![1, 2],
        pads: vec![(1, 0), (0, 2)],
    };
    let op = Op::Conv {
        window,
        groups: 2,
        bias: true,
        residual: false,
        activation: Activation::RELU,
    };
    let y = single(
        op,
        &[x.clone(), w.clone(), bias.clone()],
        (DType::F32, &[2, 6, 3, 6]),
    )
    .unwrap();
    let (x, w, b) = (
        x.floats().unwrap(),
        w.floats().unwrap(),
        bias.floats().unwrap(),
    );
    for (i, &got) in y.floats().unwrap().iter().enumerate() {
        let (ox, oy, o, n) = (i % 6, i / 6 % 3, i / 18 % 6, i / 108);
        let mut want = b[o];
        for c in 0..2 {
            for ky in 0..3 {
                for kx in 0..2 {
                    let (iy, ix) = ((oy * 2 + ky) as i64 - 1, ox + kx * 2);
                    if (0..7).contains(&iy) && ix < 6 {
                        let at = ((n * 4 + o / 3 * 2 + c) * 7 + iy as usize) * 6 + ix;
                        want += x[at] * w[((o * 2 + c) * 3 + ky) * 2 + kx];
                    }
                }
            }
        }
        assert_eq!(got, want.max(0.0), "element {i}");
    }
}

#[test]
fn quantising_rounds_half_to_even_and_saturates() {
    let x = Constant::f32(&[6], vec![0.5, 1.5, 2.5, -300.0, 300.0, -0.5]);
    let scale = Constant::f32(&[], vec![1.0]);
    let zero = Constant {
        shape: vec![],
        data: Data::U8(vec![2].into()),
    };
    let op = Op::Quantize {
        axis: 1,
        to: DType::U8,
    };
    let y = single(op, &[x, scale, zero], (DType::U8, &[6])).unwrap();
    assert_eq!(y.data, Data::U8(vec![2, 4, 4, 0, 255, 2].into()));
}

#[test]
fn a_mean_counts_padding_only_when_asked_and_never_what_rounding_up_added() {
    let x = Constant::f32(&[1, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    let pool = |count_include_pad| Op::Pool {
        kind: PoolKind::Average { count_include_pad },
        window: Window {
            kernel: vec![3],
            strides: vec![2],
            dilations: vec![1],
            pads: vec![(1, 2)],
        },
        extra: vec![1],
        column_major: false,
    };
    let with = single(
        pool(true),
        std::slice::from_ref(&x),
        (DType::F32, &[1, 1, 3]),
    )
    .unwrap();
    assert_eq!(with.floats().unwrap(), [1.0, 3.0, 2.0]);
    let without = single(pool(false), &[x], (DType::F32, &[1, 1, 3])).unwrap();
    assert_eq!(without.floats().unwrap(), [1.5, 3.0, 4.0]);
}

#[test]
fn a_product_broadcasts_its_outer_axes() {
    let (a, b) = (numbers(&[2, 1, 2, 3], 5), numbers(&[4, 3, 2], 6));
    let y = single(
        Op::MatMul,
        &[a.clone(), b.clone()],
        (DType::F32, &[2, 4, 2, 2]),
    )
    .unwrap();
    let (a, b) = (a.floats().unwrap(), b.floats().unwrap());
    for (i, &got) in y.floats().unwrap().iter().enumerate() {
        let (n, m, q, p) = (i % 2, i / 2 % 2, i / 4 % 4, i / 16);
        let want: f32 = (0..3)
            .map(|k| a[p * 6 + m * 3 + k] * b[q * 6 + k * 2 + n])
            .sum();
        assert_eq!(got, want);
    }
}

#[test]
fn wrong_shapes_are_refused_when_compiling() {
    let x = numbers(&[2, 3], 1);
    let transpose = Op::Transpose { perm: vec![1, 0] };
    let err = single(transpose, &[x], (DType::F32, &[2, 3])).unwrap_err();
    assert!(matches!(err, EngineError::Unsupported(_)), "{err}");
}

#[test]
fn a_bad_index_is_an_error_of_the_run() {
    let (x, i) = (numbers(&[3], 1), Constant::i64(&[2], vec![-1, 3]));
    let err = single(Op::Gather { axis: 0 }, &[x, i], (DType::F32, &[2])).unwrap_err();
    assert_eq!(err.to_string(), "node `y`: index 3 on an axis of 3");
}

fn chain() -> Graph {
    let mut b = Builder::new("chain");
    let x = b.input("x", Shape::batched(&[3, 8, 8]));
    let w = |n, s| numbers(&[n], s).floats().unwrap().to_vec();
    let a = b.conv_with("a", x, w(20 * 27, 1), 20, 3, 1, 1, Activation::RELU);
    let c = b.conv_with("c", a, w(33 * 180, 2), 33, 3, 2, 1, Activation::RELU6);
    let d = b.conv_with("d", c, w(7 * 33, 3), 7, 1, 1, 0, Activation::NONE);
    b.output(d);
    b.finish()
}

#[test]
fn prefix_and_suffix_equal_the_whole_at_any_batch() {
    let g = chain();
    let cut = g.find("c").unwrap();
    let first = g.subgraph(&g.inputs, &[cut]).unwrap();
    let second = g.subgraph(&[cut], &g.outputs).unwrap();
    let [whole, first, second] =
        [g, first, second].map(|g| Engine::new(g, &Options::default()).unwrap());
    let cancel = Cancel::new();
    for batch in [1, 3, 8] {
        let x: Vec<f32> = (0..batch * 192).map(|i| (i as f32 * 0.37).sin()).collect();
        let want = whole.run_f32(batch, &[&x], &cancel).unwrap();
        let middle = first.run_f32(batch, &[&x], &cancel).unwrap();
        let got = second.run_f32(batch, &[&middle[0]], &cancel).unwrap();
        assert_eq!(want, got);
    }
}

#[test]
fn runs_go_on_side_by_side_and_threads_change_nothing() {
    let one = Engine::new(chain(), &Options { threads: 1 }).unwrap();
    let two = Engine::new(chain(), &Options { threads: 2 }).unwrap();
    let x: Vec<f32> = (0..5 * 192).map(|i| (i as f32 * 0.37).sin()).collect();
    let want = one.run_f32(5, &[&x], &Cancel::new()).unwrap();
    std::thread::scope(|s| {
        for _ in 0..3 {
            let (engine, x, want) = (&two, &x, &want);
            s.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(&engine.run_f32(5, &[x], &Cancel::new()).unwrap(), want);
                }
            });
        }
    });
}

/// The graph by candle's operations on the CPU.
fn by_candle(graph: Graph) -> Box<dyn Compiled> {
    let candle = Candle::open(CandleDevice::Cpu).unwrap();
    candle.compile(graph, &CompileOptions::default()).unwrap()
}

/// Attention and what stands around it, large enough that its steps are handed out.
fn attention() -> Graph {
    let mut b = Builder::new("attention");
    let x = b.input("x", Shape::batched(&[4, 130, 64]));
    let k = b.input("k", Shape::batched(&[4, 64, 130]));
    let wide = Shape::batched(&[4, 130, 130]);
    let scores = b.node("scores", Op::MatMul, &[x, k], wide.clone(), 0);
    let mask = b.constant("mask", numbers(&[130, 1], 3));
    let add = Op::Binary(crate::model::op::Binary::Add, Activation::NONE);
    let masked = b.node("masked", add.clone(), &[scores, mask], wide.clone(), 0);
    let softmax = Op::Softmax {
        axis: 3,
        flatten: false,
        log: false,
    };
    let shares = b.node("shares", softmax, &[masked], wide, 0);
    let narrow = Shape::batched(&[4, 130, 64]);
    let mixed = b.node("mixed", Op::MatMul, &[shares, x], narrow.clone(), 0);
    let sum = b.node("sum", add, &[mixed, x], narrow.clone(), 0);
    let (scale, shift) = (numbers(&[64], 4), numbers(&[64], 5));
    let (scale, shift) = (b.constant("scale", scale), b.constant("shift", shift));
    let norm = Op::LayerNorm {
        axis: 3,
        epsilon: 1e-5,
    };
    let normed = b.node("normed", norm, &[sum, scale, shift], narrow.clone(), 0);
    let gelu = Op::Unary(crate::model::op::Unary::Gelu { tanh: false });
    let active = b.node("active", gelu, &[normed], narrow, 0);
    let perm = vec![0, 2, 1, 3];
    let turned = Shape::batched(&[130, 4, 64]);
    let turned = b.node("turned", Op::Transpose { perm }, &[active], turned, 0);
    // Products so large that single ones are cut too.
    let rows = Shape::batched(&[1, 520, 64]);
    let one = |id, b: &mut Builder, name: &str, to: &Shape| {
        b.node(name, Op::Reshape { to: to.0.clone() }, &[id], to.clone(), 0)
    };
    let left = one(turned, &mut b, "left", &rows);
    let right = one(k, &mut b, "right", &Shape::batched(&[1, 64, 520]));
    let out = Shape::batched(&[1, 520, 520]);
    let out = b.node("out", Op::MatMul, &[left, right], out, 0);
    b.output(out);
    b.output(active);
    b.finish()
}

#[test]
fn attention_is_the_same_with_any_threads_and_by_candle() {
    let input = |seed: f32, n: usize| (0..n).map(|i| (i as f32 * seed).sin()).collect();
    for batch in [1, 3] {
        let n = batch * 4 * 130 * 64;
        let (x, k): (Vec<f32>, Vec<f32>) = (input(0.37, n), input(0.11, n));
        let run = |network: &dyn Compiled| {
            let outputs = network.run_f32(batch, &[&x, &k], &Cancel::new());
            outputs.unwrap()
        };
        let with = |threads| Engine::new(attention(), &Options { threads }).unwrap();
        let want = run(&with(1));
        let many = run(&with(3));
        assert!(want == many);
        let candle = run(&*by_candle(attention()));
        for (w, g) in want.iter().flatten().zip(candle.iter().flatten()) {
            assert!((w - g).abs() <= 1e-3 * w.abs().max(1.0), "{g} for {w}");
        }
    }
}

#[test]
fn batch_sizes_and_pieces_share_their_packed_weights() {
    let g = chain();
    let tail = g.subgraph(&[g.find("a").unwrap()], &g.outputs).unwrap();
    let whole = Engine::new(g, &Options::default()).unwrap();
    let tail = Engine::new(tail, &Options::default()).unwrap();
    let held = |engine: &Engine, batch| {
        let program = engine.program(batch).unwrap();
        let weights: Vec<_> = program.weights().values().cloned().collect();
        weights
    };
    for (w, t) in held(&whole, 1)[1..].iter().zip(held(&tail, 4)) {
        assert!(Arc::ptr_eq(w, &t));
    }
    assert!(tail.memory(1).unwrap().weight_bytes < whole.memory(1).unwrap().weight_bytes);
}

#[test]
fn packed_weights_are_let_go_and_other_batch_sizes_do_without_them() {
    let g = chain();
    let floats = |g: &Graph| -> Vec<std::sync::Weak<Vec<f32>>> {
        let constants = g.constants.values();
        let floats = constants.filter_map(|c| match &c.data {
            Data::F32(v) => Some(Arc::downgrade(v)),
            _ => None,
        });
        floats.collect()
    };
    let (sources, x) = (floats(&g), vec![0.25; 5 * 192]);
    let shared = Engine::new(g.clone(), &Options::default()).unwrap();
    let want = shared.run_f32(5, &[&x], &Cancel::new()).unwrap();
    // Those that `g` holds too stay.
    assert!(sources.iter().all(|w| w.strong_count() == 1));
    drop(shared);
    let engine = Engine::new(g, &Options::default()).unwrap();
    let held = sources.iter().filter(|w| w.strong_count() > 0).count();
    let packed = engine.program(1).unwrap().weights().len();
    assert!(packed > 1, "{packed}");
    assert_eq!(held, sources.len() - packed);
    assert_eq!(engine.run_f32(5, &[&x], &Cancel::new()).unwrap(), want);
}

#[test]
fn a_constant_that_is_also_read_plainly_stays() {
    let mut b = Builder::new("both");
    let x = b.input("x", Shape::batched(&[4]));
    let w = b.constant("w", numbers(&[4, 4], 1));
    let y = b.node("y", Op::MatMul, &[x, w], Shape::batched(&[4]), 0);
    let softmax = Op::Softmax {
        axis: 1,
        flatten: false,
        log: false,
    };
    let z = b.node("z", softmax, &[w], Shape::fixed(&[4, 4]), 0);
    b.output(y);
    b.output(z);
    let engine = Engine::new(b.finish(), &Options::default()).unwrap();
    let held = engine.program(1).unwrap().weights().len();
    assert_eq!(held, 1, "the product has it packed");
    for batch in [1, 3] {
        let out = engine
            .run_f32(batch, &[&vec![1.0; 4 * batch]], &Cancel::new())
            .unwrap();
        let row: f32 = out[1][..4].iter().sum();
        assert!((row - 1.0).abs() < 1e-6, "{row}");
    }
}

#[test]
fn a_run_of_no_samples_is_refused() {
    let engine = Engine::new(chain(), &Options::default()).unwrap();
    let error = engine.run_f32(0, &[&[]], &Cancel::new()).unwrap_err();
    assert!(matches!(error, EngineError::Input { .. }), "{error}");
}

#[test]
fn a_raised_flag_stops_the_run() {
    let engine = Engine::new(chain(), &Options::default()).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let err = engine.run_f32(1, &[&[0.0; 192]], &cancel).unwrap_err();
    assert!(matches!(err, EngineError::Cancelled));
}

#[test]
fn an_input_of_the_wrong_length_is_named() {
    let engine = Engine::new(chain(), &Options::default()).unwrap();
    let err = engine
        .run_f32(2, &[&[0.0; 192]], &Cancel::new())
        .unwrap_err();
    let text = err.to_string();
    assert!(text.contains("`x`") && text.contains("192"), "{text}");
}

mod stop;

mod kernels_against_the_general_path {
    use super::*;
    use crate::engine::general::{self, TensorInfo, View, ViewMut};
    use proptest::prelude::*;

    /// The graph's nodes one after another on the general path.
    fn plainly(graph: &Graph, batch: usize, x: &[f32]) -> Vec<Vec<f32>> {
        let mut known: std::collections::HashMap<_, Vec<f32>> = Default::default();
        known.insert(graph.inputs[0], x.to_vec());
        for (&id, c) in &graph.constants {
            known.insert(id, c.floats().unwrap().to_vec());
        }
        for node in &graph.nodes {
            let info = |&id: &ValueId| TensorInfo::of(graph, id, batch);
            let ins: Vec<TensorInfo> = node.inputs.iter().map(info).collect();
            let outs: Vec<TensorInfo> = node.outputs.iter().map(info).collect();
            let work = general::compile(&node.op, &ins, &outs).unwrap();
            let views: Vec<View> = node
                .inputs
                .iter()
                .map(|id| View(bytemuck::cast_slice(&known[id])))
                .collect();
            let mut y = vec![0.0f32; outs[0].len()];
            let (pool, cancel) = (Pool::shared(1), Cancel::new());
            let team = general::Team {
                pool: &pool,
                cancel: &cancel,
            };
            work(
                &views,
                &mut [ViewMut(bytemuck::cast_slice_mut(&mut y))],
                team,
            )
            .unwrap();
            known.insert(node.outputs[0], y);
        }
        graph.outputs.iter().map(|id| known[id].clone()).collect()
    }

    fn noise(n: usize, seed: usize) -> Vec<f32> {
        let mix = |i: usize| ((i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32;
        (0..n).map(|i| mix(i) / (1 << 23) as f32 - 1.0).collect()
    }

    fn agree(graph: Graph, batch: usize, threads: usize) -> Result<(), TestCaseError> {
        let n = graph.value(graph.inputs[0]).shape.elements(batch);
        let x = noise(n, 77);
        let want = plainly(&graph, batch, &x);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.runs_here()) {
            let options = Options { threads };
            let arenas = Arc::new(Arenas::default());
            let engine =
                Engine::sharing(graph.clone(), &options, Some(isa), arenas.clone()).unwrap();
            let steps = engine.steps(batch).unwrap();
            let fast = |s: &StepInfo| s.kernel != "general";
            prop_assert!(steps.iter().any(fast), "{steps:?}");
            // The first run finds an arena that another network left, of which no float is a number;
            // the second finds the first's numbers.
            let mut left = Memory::zeroed(engine.program(batch).unwrap().block_bytes());
            left.bytes_mut().fill(0xFF);
            arenas.give(left);
            for _ in 0..2 {
                let got = engine.run_f32(batch, &[&x], &Cancel::new()).unwrap();
                for (got, want) in got.iter().zip(&want) {
                    let scale = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
                    for (i, (g, w)) in got.iter().zip(want).enumerate() {
                        prop_assert!((g - w).abs() <= 2e-5 * scale, "{i}: {g} for {w}, {isa:?}");
                    }
                }
            }
        }
        // A second opinion, and the interpreter for GPUs tested where there is none.
        let got = by_candle(graph)
            .run_f32(batch, &[&x], &Cancel::new())
            .unwrap();
        for (got, want) in got.iter().zip(&want) {
            let scale = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            for (i, (g, w)) in got.iter().zip(want).enumerate() {
                prop_assert!((g - w).abs() <= 1e-3 * scale, "{i}: {g} for {w} by candle");
            }
        }
        Ok(())
    }

    #[derive(Debug, Clone)]
    struct Case {
        window: Window,
        extents: Vec<usize>,
        channels: usize,
        wide: usize,
        groups: usize,
        flags: (bool, bool),
        batch: usize,
        threads: usize,
    }

    prop_compose! {
        fn axis()(k in 1usize..5, s in 1usize..4, d in 1usize..3, before in 0usize..4,
                  after in 0usize..4, more in 0usize..9)
            -> (usize, usize, usize, (usize, usize), usize) {
            let reach = d * (k - 1) + 1;
            let pads = (before.min(k - 1), after.min(k - 1));
            (k, s, d, pads, (reach + more).saturating_sub(pads.0 + pads.1).max(1))
        }
    }

    prop_compose! {
        fn case()(axes in prop::collection::vec(axis(), 1..3), cin in 1usize..71,
                  cout in 1usize..71, grouping in 0usize..6, groups in 2usize..5,
                  flags in any::<(bool, bool)>(), batch in 1usize..10, threads in 1usize..5)
            -> Case {
            let (channels, wide, groups) = match grouping {
                0 => (cin, cin, cin),
                1 => (cin * groups, (cout / 2 + 1) * groups, groups),
                _ => (cin, cout, 1),
            };
            Case {
                window: Window {
                    kernel: axes.iter().map(|a| a.0).collect(),
                    strides: axes.iter().map(|a| a.1).collect(),
                    dilations: axes.iter().map(|a| a.2).collect(),
                    pads: axes.iter().map(|a| a.3).collect(),
                },
                extents: axes.iter().map(|a| a.4).collect(),
                channels, wide, groups, flags, batch, threads,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn convolutions(case in case()) {
            let mut b = Builder::new("conv");
            let x = b.input("x", Shape::batched(&[&[case.channels], &case.extents[..]].concat()));
            let deep = case.channels / case.groups;
            let dims = [&[case.wide, deep], &case.window.kernel[..]].concat();
            let w = Constant::f32(&dims, noise(dims.iter().product(), 5));
            let mut ids = vec![x, b.constant("w", w)];
            let (bias, residual) = case.flags;
            if bias {
                ids.push(b.constant("b", Constant::f32(&[case.wide], noise(case.wide, 9))));
            }
            let shape = b.windowed(x, case.wide, &case.window);
            let op = |residual, activation| Op::Conv {
                window: case.window.clone(), groups: case.groups, bias, residual, activation,
            };
            let mut y = b.node("y", op(false, Activation::RELU6), &ids, shape.clone(), 0);
            if residual {
                ids.push(y);
                y = b.node("z", op(true, Activation::RELU), &ids, shape, 0);
            }
            b.output(y);
            agree(b.finish(), case.batch, case.threads)?;
        }

        #[test]
        fn pools_concats_and_products(case in case(), kind in 0usize..3) {
            let mut b = Builder::new("pools");
            let mut window = case.window.clone();
            // Without dilation every window covers a real cell, which a maximum needs.
            window.dilations.fill(1);
            let extents = &case.extents;
            prop_assume!((0..extents.len()).all(|a| window.output(a, extents[a]).is_some()));
            let x = b.input("x", Shape::batched(&[&[case.channels], &extents[..]].concat()));
            let kind = match kind {
                0 => PoolKind::Max,
                k => PoolKind::Average { count_include_pad: k == 1 },
            };
            let shape = b.windowed(x, case.channels, &window);
            let extra = vec![0; extents.len()];
            let op = Op::Pool { kind, window, extra, column_major: false };
            let p = b.node("p", op, &[x], shape.clone(), 0);
            let one = Window {
                kernel: vec![1; extents.len()], strides: vec![1; extents.len()],
                dilations: vec![1; extents.len()], pads: vec![(0, 0); extents.len()],
            };
            let dims = [&[case.wide, case.channels], &one.kernel[..]].concat();
            let w = b.constant("w", Constant::f32(&dims, noise(dims.iter().product(), 3)));
            let shape_q = b.windowed(p, case.wide, &one);
            let op = Op::Conv {
                window: one, groups: 1, bias: false, residual: false, activation: Activation::NONE,
            };
            let q = b.node("q", op, &[p, w], shape_q, 0);
            let mut dims = shape.0.clone();
            let total = case.channels * 2 + case.wide;
            dims[1] = Dim::Fixed(total);
            let c = b.node("c", Op::Concat { axis: 1 }, &[p, q, p], Shape(dims.clone()), 0);
            let s = b.node("s", Op::Unary(crate::model::op::Unary::HardSwish), &[c], Shape(dims), 0);
            let ones = vec![1; extents.len()];
            let pooled = Shape::batched(&[&[total], &ones[..]].concat());
            let g = b.node("g", Op::GlobalPool { average: true }, &[s], pooled, 0);
            let flat = Shape::batched(&[total]);
            let f = b.node("f", Op::Reshape { to: flat.0.clone() }, &[g], flat, 0);
            let w = b.constant("v", Constant::f32(&[7, total], noise(7 * total, 4)));
            let op = Op::Gemm {
                trans_a: false, trans_b: true, alpha: 1.0, beta: 1.0, activation: Activation::NONE,
            };
            let y = b.node("y", op, &[f, w], Shape::batched(&[7]), 0);
            b.output(y);
            b.output(c);
            b.output(p);
            agree(b.finish(), case.batch, case.threads)?;
        }
    }
}
