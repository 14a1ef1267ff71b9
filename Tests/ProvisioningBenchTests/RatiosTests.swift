import Foundation
import Testing

@testable import provisioning_bench

// Foundation has one, too.
private typealias Measurement = provisioning_bench.Measurement

@Suite struct RatiosTests {
    private static let modify = DaemonSetup.Task.modify.rawValue

    private func rate(_ name: String, _ rate: Double) -> Measurement { Measurement(name, [:], [Figure.rate: rate]) }

    @Test("nothing measured: every ratio is there by its name, and null")
    func nothing() throws {
        let report = BenchReport(machine: [], versions: [], measurements: [], failures: [])
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(report.json().utf8)) as? [String: Any])
        let ratios = try #require(object["ratios"] as? [String: Any])
        #expect(
            Set(ratios.keys) == [
                "throughput_vs_limit", "throughput_vs_bare_limit", "throughput_vs_perl", "throughput_vs_shell",
                "cpu_ms_per_modify", "cpu_ms_without_script",
                "latency_adding_vs_roundtrip", "latency_added_vs_floor", "scale_1m_vs_10k", "rss_idle_mb",
                "rss_100k_pending_mb", "idle_cpu_fraction",
            ])
        #expect(ratios.values.allSatisfy { $0 is NSNull })
        #expect(Set(Verdict.bounds.keys) == Set(ratios.keys))
    }

    @Test("ours in its best setup is held against the best that was seen of the limit and of the baselines")
    func throughput() {
        let ratios = Ratios([
            rate("limit.combined", 500), rate("limit.combined", 700), rate("limit.honest", 420),
            rate("baseline.perl", 140),
            rate("baseline.shell", 35), rate(Self.modify, 600), rate(Self.modify, 840), rate(Self.modify, 800),
        ])
        #expect(ratios.throughputVsLimit == 2)
        #expect(ratios.throughputVsBareLimit == 1.2)
        #expect(ratios.throughputVsPerl == 6)
        #expect(ratios.throughputVsShell == 24)
    }

    @Test("CPU time counts for each job, in the setup that takes least")
    func processorTime() {
        func run(_ seconds: Double?, jobs: Int = 1_000) -> Measurement {
            Measurement(Self.modify, ["jobs": .number(jobs)], [Figure.cpu: seconds])
        }
        #expect(Ratios([run(2), run(nil), run(0.5), run(1)]).cpuPerModify == 0.5)
        #expect(Ratios([run(nil)]).cpuPerModify == nil)
        #expect(Ratios([run(1)]).cpuPerModifyWithoutScript == nil)
    }

    @Test("latency is held against the single operations of the same run")
    func latency() {
        let ratios = Ratios([
            Measurement("single.modify", [:], [Figure.median: 2]), Measurement("single.start", [:], [Figure.median: 1]),
            Measurement("latency.adding", [:], [Figure.median: 5, Figure.highest: 50]),
            Measurement("latency.added", [:], [Figure.median: 6, Figure.highest: 12.5]),
        ])
        #expect(ratios.latencyAddingVsRoundtrip == 2.5)
        #expect(ratios.latencyAddedVsFloor == 2.5)
    }

    @Test("sizes that were not run leave their ratios null, and others do not stand in for them")
    func sizes() {
        func scale(_ accounts: Int, _ seconds: Double) -> Measurement {
            Measurement("scale", ["accounts": .number(accounts)], [Figure.seconds: seconds, Figure.resident: 30])
        }
        let small = Ratios([scale(1_000, 1), scale(10_000, 1)])
        #expect(small.scale1mVs10k == nil)
        #expect(small.rssIdleMB == nil)
        let all = Ratios([scale(10_000, 2), scale(1_000_000, 2.5)])
        #expect(all.scale1mVs10k == 1.25)
        #expect(all.rssIdleMB == 30)
        #expect(Ratios([Measurement("pending", ["requests": 1_000], [Figure.peak: 50])]).rss100kPendingMB == nil)
        #expect(Ratios([Measurement("pending", ["requests": 100_000], [Figure.peak: 50])]).rss100kPendingMB == 50)
    }

    @Test(
        "a promise holds at its bound, and one below it does not",
        arguments: [
            ("throughput_vs_limit", 0.9, true), ("throughput_vs_limit", 0.89, false), ("scale_1m_vs_10k", 1.2, true),
            ("scale_1m_vs_10k", 1.21, false), ("idle_cpu_fraction", 0.001, false), ("idle_cpu_fraction", 0.000_9, true),
        ])
    func verdicts(_ name: String, _ value: Double, _ holds: Bool) throws {
        let bound = try #require(Verdict.bounds[name])
        #expect(Verdict(name: name, bound: bound, value: value).holds == holds)
        #expect(Verdict(name: name, bound: bound, value: nil).holds == nil)
    }
}
