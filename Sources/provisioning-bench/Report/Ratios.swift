/// What the figures come to, within one run; nil where something that it needs was not run.
struct Ratios: Hashable, Sendable {
    /// Jobs a second of ours, in its best setup with a script that does nothing, to `limit.combined`.
    var throughputVsLimit: Double?
    /// The same to `baseline.perl`.
    var throughputVsPerl: Double?
    /// The same to `baseline.shell`.
    var throughputVsShell: Double?
    /// Median of the time from a wish to its claim, to the median of one modify.
    var latencyAddingVsRoundtrip: Double?
    /// 99th percentile of the time from a wish to its end, to two modifies and one start of a process (medians).
    var latencyAddedVsFloor: Double?
    /// From the start to all done with 1,000,000 accounts, to that with 10,000.
    var scale1mVs10k: Double?
    /// Resident memory of the idle daemon with 1,000,000 accounts, in MB (1,000,000 bytes).
    var rssIdleMB: Double?
    /// The most resident memory with 100,000 wishes waiting, in MB.
    var rss100kPendingMB: Double?
    /// The part of one core that the idle daemon takes.
    var idleCPUFraction: Double?

    init(_ measurements: [Measurement]) {
        func all(_ name: String) -> [Measurement] { measurements.filter { $0.name == name } }
        func best(_ measurements: [Measurement]) -> Double? { measurements.compactMap { $0[Figure.rate] }.max() }
        func ratio(_ part: Double?, _ whole: Double?) -> Double? {
            guard let part, let whole, whole > 0 else { return nil }
            return part / whole
        }
        let ours = best(all(DaemonSetup.Task.modify.rawValue))
        throughputVsLimit = ratio(ours, best(all("limit.combined")))
        throughputVsPerl = ratio(ours, best(all("baseline.perl")))
        throughputVsShell = ratio(ours, best(all("baseline.shell")))

        let roundTrip = all("single.modify").first?[Figure.median]
        let start = all("single.start").first?[Figure.median]
        latencyAddingVsRoundtrip = ratio(all("latency.adding").first?[Figure.median], roundTrip)
        let floor = roundTrip.flatMap { trip in start.map { 2 * trip + $0 } }
        latencyAddedVsFloor = ratio(all("latency.added").first?[Figure.highest], floor)

        func scale(_ accounts: Int) -> Measurement? { all("scale").first { $0.number("accounts") == accounts } }
        scale1mVs10k = ratio(scale(1_000_000)?[Figure.seconds], scale(10_000)?[Figure.seconds])
        rssIdleMB = scale(1_000_000)?[Figure.resident]
        rss100kPendingMB = all("pending").first { $0.number("wishes") == 100_000 }?[Figure.peak]
        idleCPUFraction = all("idle").first?[Figure.fraction]
    }

    /// Each with its name, in the order of the report.
    var named: [(name: String, value: Double?)] {
        [
            ("throughput_vs_limit", throughputVsLimit), ("throughput_vs_perl", throughputVsPerl),
            ("throughput_vs_shell", throughputVsShell), ("latency_adding_vs_roundtrip", latencyAddingVsRoundtrip),
            ("latency_added_vs_floor", latencyAddedVsFloor), ("scale_1m_vs_10k", scale1mVs10k),
            ("rss_idle_mb", rssIdleMB), ("rss_100k_pending_mb", rss100kPendingMB),
            ("idle_cpu_fraction", idleCPUFraction),
        ]
    }
}

/// Whether a ratio is what is promised.
struct Verdict: Hashable, Sendable {
    enum Bound: Hashable, Sendable { case atLeast(Double), atMost(Double), below(Double) }

    let name: String
    let bound: Bound
    let value: Double?

    /// What is promised of each ratio.
    static let bounds: [String: Bound] = [
        "throughput_vs_limit": .atLeast(1.2), "throughput_vs_perl": .atLeast(5), "throughput_vs_shell": .atLeast(18),
        "latency_adding_vs_roundtrip": .atMost(3),
        "latency_added_vs_floor": .atMost(3), "scale_1m_vs_10k": .atMost(1.5), "rss_idle_mb": .atMost(40),
        "rss_100k_pending_mb": .atMost(120), "idle_cpu_fraction": .below(0.001),
    ]

    static func all(_ ratios: Ratios) -> [Verdict] {
        ratios.named.compactMap { name, value in
            bounds[name].map { Verdict(name: name, bound: $0, value: value) }
        }
    }

    /// nil where it was not run.
    var holds: Bool? {
        value.map { value in
            switch bound {
            case .atLeast(let limit): value >= limit
            case .atMost(let limit): value <= limit
            case .below(let limit): value < limit
            }
        }
    }

    /// The bound in words.
    var promise: String {
        switch bound {
        case .atLeast(let limit): "at least \(Decimals.text(limit))"
        case .atMost(let limit): "at most \(Decimals.text(limit))"
        case .below(let limit): "below \(Decimals.text(limit))"
        }
    }
}
