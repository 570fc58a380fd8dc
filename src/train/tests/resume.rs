/*! A training that was killed goes on to the same end. */

use super::*;
use pretty_assertions::assert_eq;

#[test]
fn a_killed_joint_training_resumes_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    let (net, head, data, hyper) = (net(), head(), Toy(20), hyper(4));
    let dropout = [Dropout {
        value: "flat".into(),
        rate: 0.3,
    }];
    let run = |saved: Option<&Path>, stop: usize| {
        trained((&data, &hyper), saved, stop, |task, on| {
            let mut branch = branch(&head);
            branch.head.dropout = &dropout;
            train_joint(&net, 1.0, &[branch], task, on)
        })
    };
    let whole = run(None, 9).0.unwrap();
    let (stopped, epochs) = run(Some(&path), 1);
    assert!(matches!(
        stopped,
        Err(TrainError::Engine(EngineError::Cancelled))
    ));
    assert_eq!(epochs, [1]);
    let (resumed, epochs) = run(Some(&path), 9);
    assert_eq!(epochs, [2, 3, 4]);
    assert_eq!(resumed.unwrap(), whole);
}

#[test]
fn killed_heads_resume_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    let (net, head, data, hyper) = (net(), head(), Toy(20), hyper(4));
    let dropout = [Dropout {
        value: "flat".into(),
        rate: 0.3,
    }];
    let run = |saved: Option<&Path>, stop: usize, limits: &CacheLimits, rate: f32| {
        let mut dropout = dropout.clone();
        dropout[0].rate = rate;
        trained((&data, &hyper), saved, stop, |task, on| {
            let mut spec = spec(&head);
            spec.dropout = &dropout;
            train_heads(&net, &[spec], task, limits, on)
        })
    };
    let none = CacheLimits::memory(0);
    for limits in [&MEMORY, &none] {
        let whole = run(None, 9, limits, 0.3).0.unwrap();
        let (stopped, epochs) = run(Some(&path), 1, limits, 0.3);
        assert!(stopped.is_err());
        assert_eq!(epochs, [1]);
        let (resumed, epochs) = run(Some(&path), 9, limits, 0.3);
        assert_eq!(epochs, [2, 3, 4]);
        assert_eq!(resumed.unwrap(), whole);
        // Another dropout is another training.
        let (other, epochs) = run(Some(&path), 9, limits, 0.0);
        assert_eq!(epochs, [1, 2, 3, 4]);
        assert_ne!(other.unwrap(), whole);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn mixed_training_resumes_in_the_phase_it_was_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved");
    let (net, head, data) = (net(), head(), Toy(20));
    let (first, then) = (hyper(2), hyper(3));
    let run = |saved: Option<&Path>, stop: usize| {
        let mut phases = Vec::new();
        let (result, epochs) = trained((&data, &then), saved, stop, |task, on| {
            train_mixed(&net, 1.0, &[branch(&head)], &first, task, &mut |e| {
                if let Event::Phase { name, .. } = e {
                    phases.push(name);
                }
                on(e);
            })
        });
        (result, epochs, phases)
    };
    let (whole, epochs, phases) = run(None, 9);
    assert_eq!(
        (epochs, phases),
        (vec![1, 2, 1, 2, 3], vec!["backbone", "together"])
    );
    let whole = whole.unwrap();
    let (stopped, epochs, _) = run(Some(&path), 1);
    assert!(stopped.is_err());
    assert_eq!(epochs, [1]);
    // The first epoch with this number is the second phase's.
    let (stopped, epochs, _) = run(Some(&path), 1);
    assert!(stopped.is_err());
    assert_eq!(epochs, [2, 1]);
    let (resumed, epochs, _) = run(Some(&path), 9);
    assert_eq!(epochs, [2, 3]);
    assert_eq!(resumed.unwrap(), whole);
    for phase in mixed_checkpoints(Some(&path)) {
        assert!(phase.unwrap().exists());
    }
}
