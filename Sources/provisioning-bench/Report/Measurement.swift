/// One thing that was measured: under which conditions, and the figures.
struct Measurement: Hashable, Sendable, Encodable {
    /// Such as `limit.ldap`.
    let name: String
    /// What was set, as text or number: `slots`, `script`.
    var conditions: [String: Condition]
    /// What came out, under names that hold their unit; nil where it could not be had.
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

/// The names of figures, each spelled once.
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
