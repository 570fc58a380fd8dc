/*! Trees of system files as boards have them, for tests. */

use std::path::Path;
use tempfile::TempDir;

/// The current of the Orin's `VDD_IN`.
pub(super) const ORIN_CURRENT: &str = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr1_input";
/// The PC's energy counter.
pub(super) const PC_ENERGY: &str = "sys/class/powercap/intel-rapl:0/energy_uj";

/// The Orin's GPU, as devfreq has it.
pub(super) const ORIN_GPU: [(&str, &str); 2] = [
    (
        "sys/class/devfreq/17000000.gpu/device/of_node/name",
        "gpu\0",
    ),
    ("sys/class/devfreq/17000000.gpu/device/load", "425\n"),
];

/// The Orin's monitor of power: three rails, one channel without, and the sum of shunt voltages.
pub(super) const ORIN_RAILS: [(&str, &str); 17] = [
    ("sys/bus/i2c/devices/0-0050/name", "24c02\n"),
    ("sys/bus/i2c/devices/1-0040/name", "ina3221\n"),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in1_label",
        "VDD_IN\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in1_input",
        "5000\n",
    ),
    (ORIN_CURRENT, "1000\n"),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in2_label",
        "VDD_CPU_GPU_CV\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in2_input",
        "5000\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr2_input",
        "300\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in3_label",
        "VDD_SOC\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in3_input",
        "5000\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr3_input",
        "250\n",
    ),
    ("sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in4_label", "NC\n"),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in4_input",
        "5000\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr4_input",
        "99\n",
    ),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in7_label",
        "sum of shunt voltages\n",
    ),
    ("sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in7_input", "80\n"),
    (
        "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr7_input",
        "80\n",
    ),
];

/// Writes files below `root`, with their folders.
pub(super) fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    root
}

/// An Orin Nano with JetPack 6.
pub(super) fn orin_nano() -> TempDir {
    let root = orin_nano_without_gpu();
    write(root.path(), &ORIN_GPU);
    root
}

/// An Orin Nano with JetPack 7.2 just after its start: the kernel hasn't made the GPU's devfreq node yet.
pub(super) fn orin_nano_jetpack_7() -> TempDir {
    let root = orin_nano_without_gpu();
    let release = "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, \
                   DATE: Mon Jun  1 09:28:48 PM UTC 2026\n# KERNEL_VARIANT: oot\n\
                   TARGET_USERSPACE_LIB_DIR=nvidia\n\
                   TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n";
    let conf = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n\
                < POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n";
    write(
        root.path(),
        &[
            ("etc/nv_tegra_release", release),
            ("etc/nvpmodel.conf", conf),
            ("var/lib/nvpmodel/status", "pmode:0002\n"),
        ],
    );
    root
}

fn orin_nano_without_gpu() -> TempDir {
    let conf = "# a comment\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n\
                < POWER_MODEL ID=1 NAME=25W >\n< PM_CONFIG DEFAULT=1 >\n";
    let cpuinfo = "processor\t: 0\nBogoMIPS\t: 62.50\nCPU implementer\t: 0x41\n\
                   CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd42\n";
    let meminfo = "MemTotal:        7802664 kB\nMemAvailable:    5000000 kB\n\
                   NvMapMemUsed:     204800 kB\n";
    let root = tree(&[
        (
            "proc/device-tree/model",
            "NVIDIA Jetson Orin Nano Developer Kit\0",
        ),
        (
            "etc/nv_tegra_release",
            "# R36 (release), REVISION: 3.0, GCID: 36923193, BOARD: generic, EABI: aarch64\n",
        ),
        ("etc/nvpmodel.conf", conf),
        ("var/lib/nvpmodel/status", "pmode:0001\n"),
        (
            "proc/self/status",
            "Name:\tx\nCpus_allowed:\t2f\nCpus_allowed_list:\t0-3,5\n",
        ),
        ("proc/cpuinfo", cpuinfo),
        ("proc/meminfo", meminfo),
        (
            "proc/stat",
            "cpu  100 0 100 780 20 0 0 0 0 0\ncpu0 1 2 3 4\n",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
            "729600\n",
        ),
        (
            "sys/devices/system/cpu/cpu5/cpufreq/scaling_cur_freq",
            "1344000\n",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
            "1510400\n",
        ),
        // Core 4 is not this process's.
        (
            "sys/devices/system/cpu/cpu4/cpufreq/cpuinfo_max_freq",
            "1900000\n",
        ),
        (
            "sys/devices/virtual/thermal/thermal_zone0/type",
            "cpu-thermal\n",
        ),
        ("sys/devices/virtual/thermal/thermal_zone0/temp", "46250\n"),
        (
            "sys/devices/virtual/thermal/thermal_zone1/type",
            "cv0-thermal\n",
        ),
        (
            "sys/devices/virtual/thermal/thermal_zone1/temp",
            "-256000\n",
        ),
        (
            "sys/devices/virtual/thermal/thermal_zone8/type",
            "tj-thermal\n",
        ),
        ("sys/devices/virtual/thermal/thermal_zone8/temp", "47500\n"),
        (
            "sys/class/devfreq/15340000.vic/device/of_node/name",
            "vic\0",
        ),
        ("sys/class/devfreq/15340000.vic/device/load", "1000\n"),
    ]);
    write(root.path(), &ORIN_RAILS);
    root
}

pub(super) fn plain_pc() -> TempDir {
    let cpuinfo = "processor\t: 0\nmodel name\t: AMD Ryzen 7 5800X 8-Core Processor\n\
                   cpu MHz\t\t: 2200.000\n\nprocessor\t: 1\ncpu MHz\t\t: 3800.000\n";
    tree(&[
        ("proc/self/status", "Cpus_allowed_list:\t0-1\n"),
        ("proc/cpuinfo", cpuinfo),
        (
            "proc/meminfo",
            "MemTotal: 32768000 kB\nMemAvailable: 16384000 kB\n",
        ),
        ("proc/stat", "cpu  1 0 1 8 0 0 0 0 0 0\n"),
        (
            "sys/devices/virtual/thermal/thermal_zone0/type",
            "x86_pkg_temp\n",
        ),
        ("sys/devices/virtual/thermal/thermal_zone0/temp", "61000\n"),
        ("sys/class/powercap/intel-rapl/enabled", "1\n"),
        ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
        (
            "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
            "100000000\n",
        ),
        (PC_ENERGY, "90000000\n"),
        ("sys/class/powercap/intel-rapl:0:0/name", "core\n"),
        ("sys/class/powercap/intel-rapl:0:0/energy_uj", "5\n"),
    ])
}
