import Synchronization
import SystemPackage

/// A measurement: its conditions and figures.
struct Measurement: Hashable, Sendable, Encodable {
    /// Such as `limit.ldap`.
    let name: String
    /// The settings: `slots`, `script`.
    var conditions: [String: Condition]
    /// The results, with names that contain their units; nil: unknown.
    var figures: [String: Double?]

    /// A value of a condition.
    enum Condition: Hashable, Sendable, Encodable, ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
        case number(Int)
        case text(String)

        init(integerLiteral value: Int) { self = .number(value) }
        init(stringLiteral value: String) { self = .text(value) }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .number(let number): try container.encode(number)
            case .text(let text): try container.encode(text)
            }
        }
    }

    init(_ name: String, _ conditions: [String: Condition] = [:], _ figures: [String: Double?]) {
        self.name = name
        self.conditions = conditions
        self.figures = figures
    }

    /// A figure that was measured.
    subscript(figure: String) -> Double? { figures[figure] ?? nil }

    /// A condition that is a number.
    func number(_ condition: String) -> Int? {
        if case .number(let number) = conditions[condition] { number } else { nil }
    }

    /// A condition that is text.
    func text(_ condition: String) -> String? {
        if case .text(let text) = conditions[condition] { text } else { nil }
    }
}

extension Measurement.Condition: CustomStringConvertible {
    var description: String {
        switch self {
        case .number(let number): "\(number)"
        case .text(let text): text
        }
    }
}

/// The names of figures.
enum Figure {
    static let rate = "jobs_per_second"
    static let seconds = "seconds"
    static let median = "p50_ms"
    static let highest = "p99_ms"
    static let extreme = "p99_9_ms"
    static let resident = "rss_mb"
    static let peak = "peak_rss_mb"
    static let cpu = "cpu_seconds"
    static let switches = "context_switches"
    static let fraction = "cpu_fraction"
}

/// Sorted samples.
struct Distribution: Hashable, Sendable {
    /// Ascending.
    let samples: [Double]

    init(_ samples: [Double]) { self.samples = samples.sorted() }

    /// The nearest-rank percentile; nil: no samples.
    /// - Parameter part: 0 to 1; 0.5 is the median.
    func percentile(_ part: Double) -> Double? {
        guard !samples.isEmpty else { return nil }
        let rank = (part * Double(samples.count)).rounded(.up)
        return samples[min(samples.count - 1, max(0, Int(rank) - 1))]
    }

    var median: Double? { percentile(0.5) }
}

/// Collects the measurements of a run, and prints the progress.
final class Recorder: Sendable {
    private struct State {
        var measurements: [Measurement] = []
        var failures: [String] = []
        /// Samples for the plot of latencies, in milliseconds.
        var latencies: [(name: String, samples: Distribution)] = []
    }

    private let state = Mutex(State())
    private let begin = ContinuousClock.now

    var measurements: [Measurement] { state.withLock { $0.measurements } }
    var failures: [String] { state.withLock { $0.failures } }
    var latencies: [(name: String, samples: Distribution)] { state.withLock { $0.latencies } }

    func add(_ measurement: Measurement) {
        state.withLock { $0.measurements.append(measurement) }
        let words = [measurement.name, BenchReport.conditions(measurement), BenchReport.figures(measurement)]
        note(words.filter { !$0.isEmpty }.joined(separator: "  "))
    }

    func add(_ name: String, _ seconds: [Double], _ conditions: [String: Measurement.Condition] = [:]) {
        let samples = Distribution(seconds.map { $0 * 1_000 })
        state.withLock { $0.latencies.append((name, samples)) }
        var conditions = conditions
        conditions["samples"] = .number(seconds.count)
        add(
            Measurement(
                name, conditions,
                [
                    Figure.median: samples.median, Figure.highest: samples.percentile(0.99),
                    Figure.extreme: samples.percentile(0.999),
                ]))
    }

    func fail(_ what: String, _ error: any Error) {
        let line = "\(what): \(error)"
        state.withLock { $0.failures.append(line) }
        note("FAILED \(line)")
    }

    /// Prints a line to standard error, with the time since the start.
    func note(_ line: String) {
        let seconds = Int((ContinuousClock.now - begin) / .seconds(1))
        do {
            try FileDescriptor.standardError.writeAll(Array("\(seconds) s  \(line)\n".utf8))
        } catch {
            // Standard error is closed; the report contains figures and failures.
        }
    }
}

/// Numbers as text for people.
enum Decimals {
    /// Three significant digits, or all digits before the point; without exponent and trailing zeros.
    static func text(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e15 else { return "\(value)" }
        var digits = 2
        var size = value.magnitude
        while size > 0, size < 1, digits < 9 {
            size *= 10
            digits += 1
        }
        if value.magnitude >= 100 { digits = 0 } else if value.magnitude >= 10 { digits = 1 }
        return fixed(value, digits)
    }

    /// With a maximum number of digits after the point.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        let unit = (0..<digits).reduce(1.0) { unit, _ in unit * 10 }
        let whole = Int((value.magnitude * unit).rounded())
        var behind = String(whole % Int(unit))
        behind = String(repeating: "0", count: max(0, digits - behind.count)) + behind
        while behind.last == "0" { behind.removeLast() }
        let before = String(whole / Int(unit))
        let sign = value < 0 && whole != 0 ? "-" : ""
        return sign + (digits == 0 || behind.isEmpty ? before : before + "." + behind)
    }
}
