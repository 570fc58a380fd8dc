//! No size and no keys make it panic.

use super::driver::Bench;
use crate::tui::message::Msg;
use proptest::prelude::*;

#[test]
fn every_small_size_draws() {
    let mut bench = Bench::new(1, 1);
    for overlay in ["", "?", ":", "o", "X", "<ret>"] {
        for page in ["1", "2", "3", "4", "5", "6"] {
            bench.press("<esc><esc>").press(page);
            if !overlay.is_empty() {
                bench.press(overlay);
            }
            for columns in [1, 2, 3, 5, 8, 13, 21, 34, 60, 80] {
                for rows in [1, 2, 3, 4, 5, 6, 8, 12, 24] {
                    bench.tell(Msg::Resize(columns, rows));
                    bench.screen();
                }
            }
            bench.press("<esc>");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_keys_at_any_size_make_it_panic(
        columns in 1_u16..260,
        rows in 1_u16..90,
        keys in "[-a-zA-Z0-9?:/<>+=. \\[\\]]{0,40}",
    ) {
        let mut bench = Bench::new(columns, rows);
        // A `<` that looks like a named key isn't one here.
        for key in keys.chars() {
            bench.press(&key.to_string());
            if bench.quit {
                break;
            }
            bench.screen();
        }
    }
}
