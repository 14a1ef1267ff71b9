import Foundation
import FoundationXML
import Testing

@testable import provisioning_bench

// Foundation has one, too.
private typealias Measurement = provisioning_bench.Measurement

@Suite struct ReportTests {
    private static let measurements = [
        Measurement("limit.honest", ["connections": 4], [Figure.rate: 1_000]),
        Measurement(
            "ours.modify", ["slots": 4, "detection": "persist"], [Figure.rate: 812.4, Figure.peak: nil]),
        Measurement("scale", ["accounts": 1_000], [Figure.seconds: 0.41]),
        Measurement("scale", ["accounts": 1_000_000], [Figure.seconds: 0.5]),
    ]

    @Test("the table names machine, versions, figures and which promise holds")
    func table() {
        let report = BenchReport(
            machine: [BenchReport.Fact("processors", "2")], versions: [BenchReport.Fact("slapd", "2.5.13")],
            measurements: Self.measurements, failures: ["scale: no space"])
        let table = report.table
        for words in ["processors  2", "slapd  2.5.13", "jobs_per_second 812", "peak_rss_mb -", "scale: no space"] {
            #expect(table.contains(words), "\(words)\n\(table)")
        }
        #expect(table.contains(/throughput_vs_limit +0\.812 +at least 0\.9 +DOES NOT HOLD/))
        #expect(table.contains(/throughput_vs_perl +- +at least 5 +not run/))
        #expect(table.contains(/idle_cpu_fraction +- +below 0\.001 +not run/))
    }

    @Test("JSON holds numbers as numbers and what was not measured as null")
    func json() throws {
        let report = BenchReport(
            machine: [BenchReport.Fact("processors", "2")], versions: [], measurements: Self.measurements, failures: [])
        let object = try #require(try JSONSerialization.jsonObject(with: Data(report.json().utf8)) as? [String: Any])
        #expect((object["machine"] as? [String: String]) == ["processors": "2"])
        let ours = try #require((object["measurements"] as? [[String: Any]])?[1])
        #expect((ours["conditions"] as? [String: Any])?["slots"] as? Int == 4)
        #expect((ours["conditions"] as? [String: Any])?["detection"] as? String == "persist")
        #expect((ours["figures"] as? [String: Any])?[Figure.rate] as? Double == 812.4)
        #expect((ours["figures"] as? [String: Any])?[Figure.peak] is NSNull)
    }

    @Test("plots are well-formed, and those without figures are left out")
    func plots() throws {
        let latencies = [(name: "latency.adding", samples: Distribution([1, 2, 3]))]
        let plots = Plots(measurements: Self.measurements, latencies: latencies).all
        #expect(plots.map(\.name) == ["throughput.svg", "slots.svg", "latency.svg", "scale.svg"])
        for plot in plots {
            let parser = XMLParser(data: Data(plot.svg.utf8))
            #expect(parser.parse(), "\(plot.name): \(String(describing: parser.parserError))")
        }
        #expect(Plots(measurements: [], latencies: []).all.isEmpty)
        #expect(Plots(measurements: [Self.measurements[2]], latencies: []).all.map(\.name) == ["scale.svg"])
    }

    @Test("text in a plot is escaped")
    func escaping() {
        var sheet = SVG(width: 10, height: 10)
        sheet.text("a < b & c", 0, 0)
        #expect(sheet.text.contains(">a &lt; b &amp; c<"))
    }

    @Test("an axis takes in every value, with round ticks")
    func axes() {
        let even = AxisScale([3, 812], isLogarithmic: false)
        #expect(even.lowest == 0)
        #expect(even.highest == 1_000)
        #expect(even.place(500) == 0.5)
        #expect(even.ticks == [0, 200, 400, 600, 800, 1_000])
        let powers = AxisScale([1_000, 1_000_000], isLogarithmic: true)
        #expect(powers.ticks.map { $0.rounded() } == [1_000, 10_000, 100_000, 1_000_000])
        #expect(abs(powers.place(10_000) - 1.0 / 3) < 1e-9)
    }

    @Test(
        "numbers have three digits or all before the point",
        arguments: [
            (0, "0"), (0.000_123_4, "0.000123"), (0.5, "0.5"), (1.234, "1.23"), (12.34, "12.3"), (99.96, "100"),
            (812.4, "812"), (1_000_000, "1000000"), (-1.5, "-1.5"), (0.0999, "0.0999"),
        ])
    func decimals(_ value: Double, _ text: String) { #expect(Decimals.text(value) == text) }
}
