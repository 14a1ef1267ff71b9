import Sandbox
import Foundation
import SystemPackage
import Testing

@testable import provisioning_bench

/// The contestants on a real server: each one must have done the work.
@Suite(.serialized) struct ContestantTests {
    private func onStage(_ accounts: Int, requesting: Int, _ body: (Stage) async throws -> Void) async throws {
        let directory = FilePath(NSTemporaryDirectory()).appending("prov-bench-test-\(UUID().uuidString.prefix(8))")
        do {
            try await body(try await Stage(in: directory).growing(by: accounts, requesting: requesting))
        } catch {
            try await Stage.end(in: directory)
            try FileManager.default.removeItem(atPath: directory.string)
            throw error
        }
        try await Stage.end(in: directory)
        try FileManager.default.removeItem(atPath: directory.string)
    }

    @Test("slapadd makes accounts, the last ones requesting, and again more of them")
    func growing() async throws {
        try await onStage(30, requesting: 10) { stage in
            #expect(try await stage.pending() == 10)
            let more = try await stage.growing(by: 20)
            #expect(more.accounts == 50)
            #expect(try await more.pending() == 10)
            #expect(try await more.finishTimes(more.first(50)).times.count == 40)
            #expect(try await more.finishTimes(more.first(50)).unfinished == 10)
        }
    }

    @Test(
        "the limit writes what a daemon has to write, however it is overlapped",
        arguments: [
            BenchPlan.Overlap(connections: 2, window: 3, spawners: 2),
            BenchPlan.Overlap(connections: 3, window: 1, spawners: 0),
        ], Limits.Kind.allCases)
    func limits(_ overlap: BenchPlan.Overlap, _ kind: Limits.Kind) async throws {
        try await onStage(20, requesting: 20) { stage in
            let limits = Limits(stage: stage)
            #expect(try await limits.combined(kind, stage.first(20), overlap) > 0)
            #expect(try await stage.pending() == 0)
            #expect(try await stage.finishTimes(stage.first(20)).unfinished == 0)
            try await stage.request("modify", stage.first(20))
            #expect(try await stage.pending() == 20)
            #expect(try await limits.ldap(stage.first(20), overlap) > 0)
            #expect(try await stage.finishTimes(stage.first(20)).unfinished == 0)
            #expect(try await limits.roundTrips(5).allSatisfy { $0 > 0 })
            #expect(try await stage.finishTimes(stage.first(1)).unfinished == 0)
        }
    }

    @Test("a limit that loses a compare-and-set says so")
    func lost() async throws {
        try await onStage(4, requesting: 2) { stage in
            await #expect(throws: BenchFailure.self) {
                try await Limits(stage: stage).ldap(
                    stage.first(4), BenchPlan.Overlap(connections: 1, window: 2, spawners: 0))
            }
        }
    }

    @Test("processes are started and waited for")
    func spawn() async throws {
        #expect(try await Limits.spawn(8, threads: 2) > 0)
        #expect(try await Limits.starts(3).count == 3)
    }

    @Test("each baseline processes every request", arguments: Baseline.allCases)
    func baselines(_ baseline: Baseline) async throws {
        try await onStage(6, requesting: 4) { stage in
            try await baseline.run(on: stage)
            #expect(try await stage.pending() == 0)
            #expect(try await stage.finishTimes(stage.first(6)).unfinished == 0)
        }
    }
}
