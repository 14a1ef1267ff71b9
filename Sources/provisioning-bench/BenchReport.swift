import FoundationEssentials

/// The results of a run, as JSON and as a table.
struct BenchReport: Sendable {
    /// The machine, in the order of the report.
    var machine: [Fact]
    /// The versions of the programs.
    var versions: [Fact]
    /// In the order of their execution.
    var measurements: [Measurement]
    /// Failed measurements with the reasons.
    var failures: [String]

    struct Fact: Hashable, Sendable {
        let name: String
        let value: String

        init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    var ratios: Ratios { Ratios(measurements) }

    /// One object with `machine`, `versions`, `measurements` and `ratios`; null: not run.
    func json() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        func object(_ facts: [Fact]) -> [String: String] {
            Dictionary(facts.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
        }
        let file = File(
            machine: object(machine), versions: object(versions), measurements: measurements,
            ratios: Dictionary(ratios.named.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first }),
            failures: failures)
        return String(decoding: try encoder.encode(file), as: UTF8.self) + "\n"
    }

    private struct File: Encodable {
        let machine: [String: String]
        let versions: [String: String]
        let measurements: [Measurement]
        let ratios: [String: Double?]
        let failures: [String]
    }

    /// For the terminal.
    var table: String {
        var lines = ["Machine"]
        lines += Self.columns(machine.map { [$0.name, $0.value] })
        lines += ["", "Versions"] + Self.columns(versions.map { [$0.name, $0.value] })
        lines += ["", "Measurements"]
        lines += Self.columns(measurements.map { [$0.name, Self.conditions($0), Self.figures($0)] })
        lines += ["", "Ratios"]
        lines += Self.columns(
            Verdict.all(ratios).map { verdict in
                let answer = verdict.holds.map { $0 ? "holds" : "DOES NOT HOLD" } ?? "not run"
                return [verdict.name, verdict.value.map(Decimals.text) ?? "-", verdict.promise, answer]
            })
        if !failures.isEmpty { lines += ["", "Not measured"] + failures.map { "  " + $0 } }
        return lines.joined(separator: "\n") + "\n"
    }

    static func conditions(_ measurement: Measurement) -> String {
        measurement.conditions.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }

    static func figures(_ measurement: Measurement) -> String {
        measurement.figures.sorted { $0.key < $1.key }
            .map { "\($0.key) \($0.value.map(Decimals.text) ?? "-")" }.joined(separator: ", ")
    }

    /// Indented rows with aligned columns.
    static func columns(_ rows: [[String]]) -> [String] {
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { place in rows.map { $0.count > place ? $0[place].count : 0 }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().reduce("  ") { line, cell in
                let padding = cell.offset + 1 < row.count ? widths[cell.offset] - cell.element.count + 2 : 0
                return line + cell.element + String(repeating: " ", count: padding)
            }
        }
    }
}

/// Ratios of the figures of one run; nil: a required measurement was not run.
struct Ratios: Hashable, Sendable {
    /// Jobs per second of the daemon in its best setup with an empty script, relative to `limit.honest`.
    var throughputVsLimit: Double?
    /// Relative to `limit.combined`.
    var throughputVsBareLimit: Double?
    /// Relative to `baseline.perl`.
    var throughputVsPerl: Double?
    /// Relative to `baseline.shell`.
    var throughputVsShell: Double?
    /// CPU time of the daemon for each `modify` with a script that does nothing, in ms; the setup that takes least.
    var cpuPerModify: Double?
    /// The same without a script.
    var cpuPerModifyWithoutScript: Double?
    /// Median of the time from a request to its claim, relative to the median of one modify.
    var latencyAddingVsRoundtrip: Double?
    /// 99th percentile of the time from a request to its end, relative to two modifies and one process start (medians).
    var latencyAddedVsFloor: Double?
    /// Time from the start until all is done with 1,000,000 accounts, relative to 10,000.
    var scale1mVs10k: Double?
    /// Resident memory of the idle daemon with 1,000,000 accounts, in MB (1,000,000 bytes).
    var rssIdleMB: Double?
    /// The maximum resident memory with 100,000 waiting requests, in MB.
    var rss100kPendingMB: Double?
    /// The share of one core that the idle daemon uses.
    var idleCPUFraction: Double?

    init(_ measurements: [Measurement]) {
        func all(_ name: String) -> [Measurement] { measurements.filter { $0.name == name } }
        func best(_ measurements: [Measurement]) -> Double? { measurements.compactMap { $0[Figure.rate] }.max() }
        func ratio(_ part: Double?, _ whole: Double?) -> Double? {
            guard let part, let whole, whole > 0 else { return nil }
            return part / whole
        }
        let ours = best(all(DaemonSetup.Task.modify.rawValue))
        throughputVsLimit = ratio(ours, best(all(Limits.Kind.honest.rawValue)))
        throughputVsBareLimit = ratio(ours, best(all(Limits.Kind.bare.rawValue)))
        throughputVsPerl = ratio(ours, best(all("baseline.perl")))
        throughputVsShell = ratio(ours, best(all("baseline.shell")))

        func cpu(_ task: DaemonSetup.Task) -> Double? {
            all(task.rawValue).compactMap { measurement in
                guard let seconds = measurement[Figure.cpu], let jobs = measurement.number("jobs"), jobs > 0 else {
                    return nil
                }
                return 1_000 * seconds / Double(jobs)
            }.min()
        }
        cpuPerModify = cpu(.modify)
        cpuPerModifyWithoutScript = cpu(.empty)

        let roundTrip = all("single.modify").first?[Figure.median]
        let start = all("single.start").first?[Figure.median]
        latencyAddingVsRoundtrip = ratio(all("latency.adding").first?[Figure.median], roundTrip)
        let floor = roundTrip.flatMap { trip in start.map { 2 * trip + $0 } }
        latencyAddedVsFloor = ratio(all("latency.added").first?[Figure.highest], floor)

        func scale(_ accounts: Int) -> Measurement? { all("scale").first { $0.number("accounts") == accounts } }
        scale1mVs10k = ratio(scale(1_000_000)?[Figure.seconds], scale(10_000)?[Figure.seconds])
        rssIdleMB = scale(1_000_000)?[Figure.resident]
        rss100kPendingMB = all("pending").first { $0.number("requests") == 100_000 }?[Figure.peak]
        idleCPUFraction = all("idle").first?[Figure.fraction]
    }

    /// In the order of the report.
    var named: [(name: String, value: Double?)] {
        [
            ("throughput_vs_limit", throughputVsLimit), ("throughput_vs_bare_limit", throughputVsBareLimit),
            ("throughput_vs_perl", throughputVsPerl), ("throughput_vs_shell", throughputVsShell),
            ("cpu_ms_per_modify", cpuPerModify), ("cpu_ms_without_script", cpuPerModifyWithoutScript),
            ("latency_adding_vs_roundtrip", latencyAddingVsRoundtrip),
            ("latency_added_vs_floor", latencyAddedVsFloor), ("scale_1m_vs_10k", scale1mVs10k),
            ("rss_idle_mb", rssIdleMB), ("rss_100k_pending_mb", rss100kPendingMB),
            ("idle_cpu_fraction", idleCPUFraction),
        ]
    }
}

/// Whether a ratio is within its bound.
struct Verdict: Hashable, Sendable {
    enum Bound: Hashable, Sendable { case atLeast(Double), atMost(Double), below(Double) }

    let name: String
    let bound: Bound
    let value: Double?

    /// The bound of each ratio.
    static let bounds: [String: Bound] = [
        "throughput_vs_limit": .atLeast(0.9), "throughput_vs_bare_limit": .atLeast(0.75),
        "throughput_vs_perl": .atLeast(5), "throughput_vs_shell": .atLeast(18),
        "cpu_ms_per_modify": .atMost(0.45), "cpu_ms_without_script": .atMost(0.3),
        "latency_adding_vs_roundtrip": .atMost(2.2), "latency_added_vs_floor": .atMost(2.5),
        "scale_1m_vs_10k": .atMost(1.2), "rss_idle_mb": .atMost(16), "rss_100k_pending_mb": .atMost(45),
        "idle_cpu_fraction": .below(0.001),
    ]

    static func all(_ ratios: Ratios) -> [Verdict] {
        ratios.named.compactMap { name, value in
            bounds[name].map { Verdict(name: name, bound: $0, value: value) }
        }
    }

    /// nil: not run.
    var holds: Bool? {
        value.map { value in
            switch bound {
            case .atLeast(let limit): value >= limit
            case .atMost(let limit): value <= limit
            case .below(let limit): value < limit
            }
        }
    }

    /// The bound as text.
    var promise: String {
        switch bound {
        case .atLeast(let limit): "at least \(Decimals.text(limit))"
        case .atMost(let limit): "at most \(Decimals.text(limit))"
        case .below(let limit): "below \(Decimals.text(limit))"
        }
    }
}
