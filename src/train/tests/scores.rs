/*! The scores of every exit are those of the parts. */

use super::*;
use pretty_assertions::assert_eq;

/// Scores come one sample at a time, whatever the number of workers, and equal what the pieces of
/// the network give one after the other.
#[test]
fn scores_equal_those_of_the_parts() {
    let (net, head, data) = (net(), head(), Toy(13));
    let heads = [("a", &head), ("c", &head)];
    let cancel = Cancel::new();
    let mut seen = Vec::new();
    let scores = forward_scores(&net, &heads[..1], &data, &cancel, &mut |n| seen.push(n)).unwrap();
    assert_eq!(seen, (1..=13).collect::<Vec<_>>());
    let engine = |graph: Graph, threads| Engine::new(graph, &Options { threads }).unwrap();
    let cut = net.find("a").unwrap();
    for threads in [1, 2, 3] {
        let front = engine(net.subgraph(&net.inputs, &[cut]).unwrap(), threads);
        let back = engine(net.subgraph(&[cut], &net.outputs).unwrap(), threads);
        let exit = engine(head.clone(), threads);
        for i in 0..13 {
            let mut input = vec![0.0; 72];
            data.input(i, &mut input);
            let run = |e: &Engine, x: &[f32]| e.run_f32(1, &[x], &cancel).unwrap().remove(0);
            let a = run(&front, &input);
            assert_eq!(run(&exit, &a), scores[0][i * 3..i * 3 + 3]);
            assert_eq!(run(&back, &a), scores[1][i * 3..i * 3 + 3]);
        }
    }
    for options in [(5, 2), (20, 1), (1, 3)] {
        let options = ScoreOptions {
            batch: options.0,
            workers: options.1,
            ..ScoreOptions::default()
        };
        let run = forward_scores_with(&options, &net, &heads[..1], &data, &cancel, &mut |_| {});
        for (a, b) in run.unwrap().iter().flatten().zip(scores.iter().flatten()) {
            assert!((a - b).abs() < 1e-4 && (options.batch > 1 || a == b));
        }
    }
    // A head that reads something else is refused by name.
    let error = forward_scores(&net, &heads[1..], &data, &cancel, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("head"), "{error}");
    cancel.cancel();
    assert!(forward_scores(&net, &heads[..1], &data, &cancel, &mut |_| {}).is_err());
}

/// At batch 1 a network's scores don't depend on where it is cut or on the threads of an engine.
#[test]
fn replica_heads_score_like_the_parts_of_a_residual_network() {
    let model = ZooModel::ResNet { depth: 8, width: 8 };
    let fused = fuse(&model.build((3, 16, 16), 10, 1).unwrap());
    let table = LayerTable::new(&fused).unwrap();
    let source = replica(&fused).unwrap();
    let heads: Vec<Head> = points(&table, &fused)
        .iter()
        .map(|p| exits::head(&source, p, "edge", 1).unwrap())
        .collect();
    assert!(heads.len() >= 3);
    let pairs: Vec<_> = heads
        .iter()
        .map(|h| (h.point.value.as_str(), &h.graph))
        .collect();
    let (data, cancel) = (Toy(3), Cancel::new());
    let scores = forward_scores(&fused, &pairs, &data, &cancel, &mut |_| {}).unwrap();
    for threads in [1, 2, 4] {
        let run = |graph: &Graph, x: &[f32]| {
            let engine = Engine::new(graph.clone(), &Options { threads }).unwrap();
            engine.run_f32(1, &[x], &cancel).unwrap().remove(0)
        };
        for i in 0..3 {
            let mut input = vec![0.0; 3 * 16 * 16];
            data.input(i, &mut input);
            // Segment by segment, each exit on what the one before has put out.
            let mut from = fused.inputs[0];
            for (head, scores) in heads.iter().zip(&scores) {
                let to = fused.find(&head.point.value).unwrap();
                input = run(&fused.subgraph(&[from], &[to]).unwrap(), &input);
                let logits = run(&head.graph, &input);
                assert_eq!(logits, scores[i * 10..i * 10 + 10], "{}", head.point.after);
                from = to;
            }
            let rest = fused.subgraph(&[from], &fused.outputs).unwrap();
            assert_eq!(run(&rest, &input), scores[heads.len()][i * 10..i * 10 + 10]);
        }
    }
}
