import FoundationEssentials

/// All that a run has to say, as JSON and as a table.
struct BenchReport: Sendable {
    /// What the run was on: names and values, in the order of the report.
    var machine: [Fact]
    /// What took part.
    var versions: [Fact]
    /// In the order in which they were made.
    var measurements: [Measurement]
    /// What could not be measured, and why.
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

    /// One object with `machine`, `versions`, `measurements` and `ratios`; what was not run is null.
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

    /// What goes to the terminal.
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

    /// Rows, indented, each column but the last as wide as it must be.
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
