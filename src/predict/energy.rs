/*!
Energy per inference on the first tier: what its part takes to compute, and the radio that samples are sent
on by. One function for the plan, the explorer, "what if", the baselines and the report.

*Computing.* Power while the board works, times the time that its part takes: the session's `watts`, or what
the board's power rails said while it was profiled. Where there is neither, a model: picojoules per
multiply-accumulate and per byte of parameters and activations. A head's multiply-accumulates are taken as
one per parameter, which linear layers have.

*Radio.* The models of Balasubramanian et al. (IMC 2009, "Energy consumption in mobile phones") and of Huang
et al. (MobiSys 2012, "A close examination of performance and power characteristics of 4G LTE networks"): to
wake takes energy and time, to send and receive takes energy per byte and power while it lasts, and behind it
the radio stays awake for a tail. Asleep, it listens for a part of each cycle.

Requests come at a rate R by themselves (a Poisson process), a share s of them is sent on, each as likely as
any other, and a transfer is short beside the tail T, which begins with it. So the times between two transfers
have an exponential distribution of rate λ = R s, and per inference

- wakes: s e^(−λT), the share of those sent that find the radio asleep;
- is awake in the tail for s (1 − e^(−λT)) / λ = (1 − e^(−λT)) / R seconds;
- listens, asleep for a share e^(−λT) of the time, for e^(−λT) listen / (cycle R) seconds.

Who finds the radio asleep waits until it is awake; where it can send only while it listens, first for that:
(cycle − listen)² / (2 cycle) in the mean.
*/

use super::outcome::{Energy, Power};
use serde::{Deserialize, Serialize};

/// How energy per inference is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnergySettings {
    /// What the first tier sends by.
    pub radio: Radio,
    /// Watts of the first tier while it computes; what its power rails said, or the model of picojoules, if
    /// absent.
    pub watts: Option<f64>,
    /// Picojoules per multiply-accumulate.
    pub pj_per_mac: f64,
    /// Picojoules per byte of parameters and activations.
    pub pj_per_byte: f64,
}

impl Default for EnergySettings {
    /// Gives an F32 multiplication and addition (3.7 + 0.9 pJ) and a byte from an 8 kB cache (5 pJ per four)
    /// at 45 nm: Horowitz, ISSCC 2014, "Computing's energy problem", as PMC8934428 quotes it in table 3. They
    /// are the least that arithmetic takes; a whole board takes far more.
    fn default() -> Self {
        EnergySettings {
            radio: Radio::Wired,
            watts: None,
            pj_per_mac: 4.6,
            pj_per_byte: 1.25,
        }
    }
}

/// What the first tier sends by.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub enum Radio {
    /// A cable, which takes no energy of its own and is never asleep.
    #[default]
    Wired,
    /// Wireless LAN of a phone ([`RadioModel::WLAN`]).
    Wlan,
    /// LTE of a phone ([`RadioModel::LTE`]).
    Lte,
    /// Figures of one's own.
    Custom(RadioModel),
}

impl Radio {
    /// Its figures; none of a cable.
    pub fn model(self) -> Option<RadioModel> {
        match self {
            Radio::Wired => None,
            Radio::Wlan => Some(RadioModel::WLAN),
            Radio::Lte => Some(RadioModel::LTE),
            Radio::Custom(own) => Some(own),
        }
    }
}

/// A radio in figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadioModel {
    /// Nanojoules per byte sent, beside `active_mw`.
    pub up_nj_per_byte: f64,
    /// Nanojoules per byte received, beside `active_mw`.
    pub down_nj_per_byte: f64,
    /// Milliwatts from sending to the answer.
    pub active_mw: f64,
    /// Millijoules to wake.
    pub wake_mj: f64,
    /// Milliseconds to wake, which a sample waits.
    pub wake_ms: f64,
    /// Milliseconds for which the radio stays awake behind a transfer.
    pub tail_ms: f64,
    /// Milliwatts meanwhile.
    pub tail_mw: f64,
    /// Milliseconds from one listening to the next while it is asleep; 0 where it doesn't listen.
    #[serde(default)]
    pub cycle_ms: f64,
    /// Milliseconds that it listens in each cycle.
    #[serde(default)]
    pub listen_ms: f64,
    /// Milliwatts while it listens.
    #[serde(default)]
    pub listen_mw: f64,
    /// Whether it wakes only while it listens, as the radios of sensor networks do: then a sample waits for
    /// that too.
    #[serde(default)]
    pub sends_in_cycle: bool,
}

impl RadioModel {
    /// A phone's of 2012, after the model of Huang et al.: 283 mW per Mbit/s up and 137 down beside 133 mW,
    /// 79 ms at 124 mW to wake, a tail of 238 ms at 119 mW, 7.6 ms at 77 mW in each 308 ms. Settings without a
    /// source: the figures were not compared with the paper's tables.
    pub const WLAN: RadioModel = RadioModel {
        up_nj_per_byte: 2265.0,
        down_nj_per_byte: 1096.0,
        active_mw: 133.0,
        wake_mj: 9.8,
        wake_ms: 79.0,
        tail_ms: 238.0,
        tail_mw: 119.0,
        cycle_ms: 308.0,
        listen_ms: 7.6,
        listen_mw: 77.0,
        sends_in_cycle: false,
    };

    /// A phone's of 2012, after the model of Huang et al.: 438 mW per Mbit/s up and 52 down beside 1288 mW,
    /// 260 ms at 1211 mW to wake, a tail of 11.6 s at 1060 mW, 43 ms at 594 mW in each 1280 ms. Settings
    /// without a source: the figures were not compared with the paper's tables.
    pub const LTE: RadioModel = RadioModel {
        up_nj_per_byte: 3507.0,
        down_nj_per_byte: 416.0,
        active_mw: 1288.0,
        wake_mj: 315.0,
        wake_ms: 260.0,
        tail_ms: 11_600.0,
        tail_mw: 1060.0,
        cycle_ms: 1280.0,
        listen_ms: 43.0,
        listen_mw: 594.0,
        sends_in_cycle: false,
    };

    /// Its fields by name, for what checks them.
    pub fn fields(&self) -> [(&'static str, f64); 10] {
        [
            ("up_nj_per_byte", self.up_nj_per_byte),
            ("down_nj_per_byte", self.down_nj_per_byte),
            ("active_mw", self.active_mw),
            ("wake_mj", self.wake_mj),
            ("wake_ms", self.wake_ms),
            ("tail_ms", self.tail_ms),
            ("tail_mw", self.tail_mw),
            ("cycle_ms", self.cycle_ms),
            ("listen_ms", self.listen_ms),
            ("listen_mw", self.listen_mw),
        ]
    }

    /// Millijoules of a transfer itself: bytes up and down, and from sending to the answer.
    pub(super) fn transfer_mj(&self, up: f64, down: f64, away_ms: f64) -> f64 {
        (self.up_nj_per_byte * up + self.down_nj_per_byte * down) / 1e6
            + self.active_mw * away_ms / 1e3
    }

    /// Share of those sent that find the radio asleep, where a share of all requests is sent.
    pub(super) fn asleep(&self, rate_hz: f64, share: f64) -> f64 {
        (-rate_hz * share * self.tail_ms / 1e3).exp()
    }

    /// Millijoules per inference of waking, tail and listening, where a share of all requests is sent.
    pub(super) fn standby_mj(&self, rate_hz: f64, share: f64) -> f64 {
        let asleep = self.asleep(rate_hz, share);
        let tail_s = -(-rate_hz * share * self.tail_ms / 1e3).exp_m1() / rate_hz;
        let listens = match self.cycle_ms > 0.0 {
            true => self.listen_ms / self.cycle_ms,
            false => 0.0,
        };
        share * asleep * self.wake_mj
            + self.tail_mw * tail_s
            + self.listen_mw * listens * asleep / rate_hz
    }

    /// Whether a sample that finds it asleep waits.
    pub(super) fn waits(&self) -> bool {
        self.wake_ms > 0.0 || (self.sends_in_cycle && self.cycle_ms > self.listen_ms)
    }

    /// Milliseconds that a sample waits which finds it asleep, in the mean.
    pub(super) fn mean_wait_ms(&self) -> f64 {
        let closed = (self.cycle_ms - self.listen_ms).max(0.0);
        let cycle = match self.sends_in_cycle && self.cycle_ms > 0.0 {
            true => closed * closed / (2.0 * self.cycle_ms),
            false => 0.0,
        };
        self.wake_ms + cycle
    }

    /// Milliseconds that a sample waits which comes at a point of the cycle, 0 to 1.
    pub(super) fn wait_ms(&self, at: f64) -> f64 {
        let cycle = match self.sends_in_cycle {
            true => (at * self.cycle_ms - self.listen_ms).max(0.0),
            false => 0.0,
        };
        self.wake_ms + cycle
    }
}

/// Where a plan's energy goes, stage by stage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spending {
    /// How computing is counted.
    pub(super) power: Power,
    /// Watts while the first tier computes, where they are known.
    pub(super) watts: Option<f64>,
    /// By the model, per stage: millijoules of what leads to it, and of its head; 0 behind the first tier.
    pub(super) work: Vec<(f64, f64)>,
    /// By the model, millijoules between the first tier's last exit and the split.
    pub(super) to_split: f64,
    /// The radio, where the plan sends by one.
    pub(super) radio: Option<RadioModel>,
    /// Requests per second.
    pub(super) rate_hz: f64,
    /// Bytes that a sample sends over the first link, and gets back.
    pub(super) up: f64,
    pub(super) down: f64,
}

/// What reaching a stage takes: milliseconds on the first tier, and from there to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Reached {
    pub(super) first_ms: f64,
    pub(super) away_ms: f64,
    pub(super) is_sent: bool,
}

impl Spending {
    /// Millijoules of a sample that leaves at each stage: computing, and its transfer. `without` leaves the
    /// head of one stage out.
    pub(super) fn stages(&self, reached: &[Reached], without: Option<usize>) -> Vec<(f64, f64)> {
        let mut sum = 0.0;
        let mut over = false;
        let stages = reached.iter().zip(&self.work).enumerate();
        stages
            .map(|(k, (reached, (body, head)))| {
                if reached.is_sent && !std::mem::replace(&mut over, true) {
                    sum += self.to_split;
                }
                sum += body;
                if without != Some(k) {
                    sum += head;
                }
                let compute = self.watts.map_or(sum, |watts| watts * reached.first_ms);
                let radio = self.radio.filter(|_| reached.is_sent);
                let transfer = |r: RadioModel| r.transfer_mj(self.up, self.down, reached.away_ms);
                (compute, radio.map_or(0.0, transfer))
            })
            .collect()
    }

    /// Energy of a plan whose samples leave its stages in these shares.
    pub(super) fn energy(&self, stages: &[(f64, f64)], shares: &[f64], sent: f64) -> Energy {
        let sum = |pick: fn(&(f64, f64)) -> f64| {
            let all = stages.iter().zip(shares);
            all.map(|(stage, share)| share * pick(stage)).sum::<f64>()
        };
        let standby = |r: RadioModel| r.standby_mj(self.rate_hz, sent);
        Energy {
            compute_mj: sum(|stage| stage.0),
            radio_mj: Some(sum(|stage| stage.1) + self.radio.map_or(0.0, standby)),
            power: self.power,
        }
    }

    /// Milliseconds that each sent sample waits for the radio, in the mean, where a share is sent.
    pub(super) fn wait_ms(&self, sent: f64) -> f64 {
        let wait = |r: RadioModel| r.asleep(self.rate_hz, sent) * r.mean_wait_ms();
        self.radio.map_or(0.0, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rstest::rstest;

    /// Wakes, seconds in the tail, seconds of listening and milliseconds waited, by events: requests come by
    /// themselves, the radio's cycle runs on whether or not it is asleep.
    fn simulated(radio: &RadioModel, rate_hz: f64, share: f64) -> (f64, f64) {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let requests = 400_000;
        let (tail, cycle) = (radio.tail_ms / 1e3, radio.cycle_ms / 1e3);
        let listen = radio.listen_ms / 1e3;
        // Seconds of listening before a time, the cycle running from 0.
        let listened = |t: f64| match cycle > 0.0 {
            true => (t / cycle).floor() * listen + (t % cycle).min(listen),
            false => 0.0,
        };
        let (mut now, mut awake_until) = (0.0_f64, 0.0_f64);
        let (mut mj, mut waited, mut sent) = (0.0, 0.0, 0.0);
        for _ in 0..requests {
            let uniform: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
            now += -uniform.ln() / rate_hz;
            if rng.random_range(0.0..1.0) >= share {
                continue;
            }
            sent += 1.0;
            if now > awake_until {
                // Asleep since the tail ended.
                mj += radio.listen_mw * (listened(now) - listened(awake_until));
                mj += radio.wake_mj;
                let at = if cycle > 0.0 { now % cycle } else { 0.0 };
                let closed = radio.sends_in_cycle && at > listen;
                waited += radio.wake_ms + if closed { 1e3 * (cycle - at) } else { 0.0 };
                mj += radio.tail_mw * tail;
            } else {
                // The tail is cut short by this one's.
                mj += radio.tail_mw * (now + tail - awake_until);
            }
            awake_until = now + tail;
        }
        (mj / f64::from(requests), waited / sent)
    }

    const SENSOR: RadioModel = RadioModel {
        cycle_ms: 500.0,
        listen_ms: 20.0,
        sends_in_cycle: true,
        ..RadioModel::WLAN
    };

    #[rstest]
    #[case::rare(RadioModel::WLAN, 1.0, 0.1)]
    #[case::every(RadioModel::WLAN, 10.0, 1.0)]
    #[case::often(RadioModel::WLAN, 3.0, 0.7)]
    #[case::long_tail(RadioModel::LTE, 0.2, 0.5)]
    #[case::hardly_asleep(RadioModel::LTE, 1.0, 0.3)]
    #[case::sensor(SENSOR, 2.0, 0.4)]
    fn the_formulas_are_what_events_give(
        #[case] radio: RadioModel,
        #[case] rate_hz: f64,
        #[case] share: f64,
    ) {
        let (mj, waited) = simulated(&radio, rate_hz, share);
        let found = radio.standby_mj(rate_hz, share);
        assert!((found / mj - 1.0).abs() < 0.01, "{found} {mj} mJ");
        let wait = radio.asleep(rate_hz, share) * radio.mean_wait_ms();
        assert!(
            (wait - waited).abs() < 0.02 * waited.max(1.0),
            "{wait} {waited} ms"
        );
    }

    #[test]
    fn a_single_sample_waits_as_long_as_all_do_in_the_mean() {
        for radio in [SENSOR, RadioModel::LTE] {
            let waits = (0..100_000).map(|i| radio.wait_ms((f64::from(i) + 0.5) / 1e5));
            let mean = waits.sum::<f64>() / 1e5;
            assert!((mean - radio.mean_wait_ms()).abs() < 0.01, "{mean}");
        }
    }

    #[test]
    fn nothing_sent_takes_what_listening_takes() {
        let lte = RadioModel::LTE;
        let listening = lte.listen_mw * lte.listen_ms / lte.cycle_ms;
        assert!((lte.standby_mj(4.0, 0.0) - listening / 4.0).abs() < 1e-9);
        assert_eq!(lte.asleep(4.0, 0.0), 1.0);
    }
}
