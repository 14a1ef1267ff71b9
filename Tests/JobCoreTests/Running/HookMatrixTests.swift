import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// The table that the manual prints, held against the machine and against real processes.
@Suite struct HookMatrixTests {
    @Test("the state machine agrees with the table", arguments: HookMatrix.rows)
    func machine(_ row: HookMatrix.Row) {
        for skips in row.skips.map({ [$0] }) ?? [true, false] {
            var state = AttemptStateMachine(hasHooks: row.pre != .off, skipsJob: skips)
            var action = state.handle(.begin)
            var given: [Int32]?
            while action != .finish {
                switch action {
                case .runPre:
                    if row.interruption == .cancelInPre { #expect(state.handle(.cancel) == .nothing) }
                    if row.interruption == .windowEndsInPre { #expect(state.handle(.windowClosed) == .endPre) }
                    action = state.handle(.preEnded(HookEnd(status: row.pre.status)))
                case .runBody:
                    if row.interruption == .cancelInJob { #expect(state.handle(.cancel) == .cancelBody) }
                    action = state.handle(.bodyEnded(JobOutcome(row.job)))
                case .runPost(let pre, let job):
                    given = [pre, job]
                    if row.interruption == .cancelInPost { #expect(state.handle(.cancel) == .nothing) }
                    action = state.handle(.postEnded(HookEnd(status: row.post.status)))
                default:
                    Issue.record("\(action) is not expected in \(state)")
                    return
                }
            }
            #expect(state.pre.status == row.preStatus)
            #expect(state.hasRun == row.jobRuns)
            #expect(state.job == row.result)
            #expect(state.post == row.postStatus)
            // A missing script has a step, and no arguments.
            #expect(row.post == .missing || given == row.postArguments)
        }
    }

    @Test("the table covers every case of each column exactly once")
    func coverage() {
        let rows = HookMatrix.rows
        #expect(Set(rows.map(\.pre)) == Set(HookMatrix.Pre.allCases))
        #expect(Set(rows.map(\.interruption)) == Set(HookMatrix.Interruption.allCases))
        #expect(Set(rows.map(\.post)) == Set(HookMatrix.Post.allCases))
        #expect(Set(rows).count == rows.count)
        #expect(rows.allSatisfy { $0.cells.count == HookMatrix.columns.count })
    }

    @Test("the outcome matrix, row by row, with real processes", arguments: HookMatrix.rows)
    func realProcesses(_ row: HookMatrix.Row) async throws {
        for skips in row.skips.map({ [$0] }) ?? [true, false] { try await run(row, skips: skips) }
    }

    private func run(_ row: HookMatrix.Row, skips: Bool) async throws {
        // 12:00 on a day; the window ends at 13:00 UTC or the same in the local zone; the clock goes there when it is read.
        let clock = ManualClock(Timestamp(secondsSince1970: 1_800_000_000))
        let bench = try JobBench(clock: clock)
        try row.pre.write(
            to: bench, waits: row.interruption == .cancelInPre, hangs: row.interruption == .windowEndsInPre)
        if row.post != .missing {
            let wait =
                row.interruption == .cancelInPost
                ? "touch in.post; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done\n" : ""
            try bench.script("post_script.sh", "\(wait)echo $0 $@ >> post\nexit \(row.post == .failed ? 3 : 0)")
        }
        let policy = JobPolicy(
            hooks: row.pre == .off ? nil : bench.directory, skipsJob: skips, timeLimit: .seconds(300),
            grace: .seconds(60),
            window: row.interruption == .windowEndsInPre ? try TimeWindow(parsing: "00:00-23:59") : nil)
        let job = try await bench.job()
        let limits = ManualSteadyClock()
        let executor = bench.executor(policy, scripts: ScriptRunner(clock: limits))
        _ = await executor.open(job)
        async let running = executor.attempt(job, number: 1) { _ in
            try bench.touch("in.job")
            if row.interruption == .cancelInJob { try await Task.sleep(for: .seconds(300)) }
            return JobOutcome(row.job)
        }
        switch row.interruption {
        case .none where row.pre == .late:
            try await eventually("the pre script runs") { bench.exists("in.pre") }
            limits.advance(by: .seconds(300))
        case .none: break
        case .cancelInPre:
            try await eventually("the pre script runs") { bench.exists("in.pre") }
            #expect(await bench.registry.cancel(job.id))
            try bench.touch("go")
        case .windowEndsInPre:
            try await eventually("the pre script runs") { bench.exists("in.pre") && !clock.deadlines.isEmpty }
            clock.advance(to: try #require(clock.deadlines.first))
        case .cancelInJob:
            try await eventually("the job runs") { bench.exists("in.job") }
            #expect(await bench.registry.cancel(job.id))
        case .cancelInPost:
            try await eventually("the post script runs") { bench.exists("in.post") }
            #expect(await bench.registry.cancel(job.id))
            try bench.touch("go")
        }
        let outcome = try await running
        let ended = try bench.attempt(of: job.id)
        #expect(outcome.result == row.result)
        #expect(ended.pre == row.preStatus)
        #expect(ended.post == row.postStatus)
        #expect(bench.exists("in.job") == row.jobRuns)
        let given = row.postArguments.map { numbers in
            ["\(bench.directory.appending("post_script.sh")) \(job.id) \(numbers[0]) \(numbers[1])"]
        }
        #expect(try bench.lines("post") == given ?? [])
        await executor.close(job, outcome)
    }
}

extension HookMatrix.Pre {
    fileprivate var status: ScriptStatus {
        switch self {
        case .off: .notAvailable
        case .successful: .successful
        case .failed, .killed, .late: .failed
        case .missing: .skipped
        }
    }

    fileprivate func write(to bench: JobBench, waits: Bool, hangs: Bool) throws {
        let wait = waits ? "touch in.pre; while [ ! -e go ] && [ -e \"$0\" ]; do sleep 0.01; done\n" : ""
        switch self {
        case .off, .missing: break
        case .successful where hangs: try bench.script("pre_script.sh", "touch in.pre; exec sleep 3600")
        case .successful: try bench.script("pre_script.sh", "\(wait)exit 0")
        case .failed: try bench.script("pre_script.sh", "\(wait)exit 3")
        case .killed: try bench.script("pre_script.sh", "kill -9 $$")
        case .late: try bench.script("pre_script.sh", "touch in.pre; exec sleep 3600")
        }
    }
}

extension HookMatrix.Post {
    fileprivate var status: ScriptStatus {
        switch self {
        case .successful: .successful
        case .failed: .failed
        case .missing: .skipped
        }
    }
}
