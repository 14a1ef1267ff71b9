import Glibc
import SystemPackage

/// Runs the measurements of a plan one after the other.
struct Benchmark: Sendable {
    /// Parts that can be run alone.
    enum Part: String, CaseIterable, Sendable {
        case limits, baselines, throughput, latency, scale, pending
    }

    let plan: BenchPlan
    let parts: Set<Part>
    let directory: FilePath
    let recorder: Recorder

    /// Ends early only if the task is cancelled. Failed parts are recorded, and the next one is run.
    func run() async throws {
        if !parts.isDisjoint(with: [.limits, .baselines, .throughput, .latency]) {
            try await onStage("speed") { stage in
                let stage = try await stage.growing(by: plan.jobs)
                try await prepareHomes(stage, stage.first(plan.jobs))
                try await speed(on: stage)
            }
        }
        if parts.contains(.pending) { try await onStage("pending") { try await pending(on: $0) } }
        // Last, because its largest size is the first to omit if time is short.
        if parts.contains(.scale) { try await onStage("scale") { try await scale(from: $0) } }
    }

    private func attempt(_ part: Part, _ body: () async throws -> Void) async throws {
        guard parts.contains(part) else { return }
        do {
            try await body()
        } catch {
            try Task.checkCancellation()
            recorder.fail(part.rawValue, error)
        }
    }

    /// Runs the body with a new stage, and removes the stage.
    private func onStage(_ name: String, _ body: (Stage) async throws -> Void) async throws {
        recorder.note("preparing \(name)")
        let path = directory.appending(name)
        do {
            try await body(try await Stage(in: path))
        } catch {
            try Task.checkCancellation()
            recorder.fail(name, error)
        }
        try await Stage.end(in: path)
        try Files.removeIfThere(path)
    }

    /// Lets the daemon create the first home, and copies it for the other accounts.
    private func prepareHomes(_ stage: Stage, _ uids: Range<Int>) async throws {
        let pattern = try await pattern(of: stage)
        try stage.makeHomes(uids.filter { $0 != AccountTemplate.firstUID }, pattern: pattern)
        // Flush now instead of during a measurement.
        sync()
    }

    /// The home and configuration that the daemon creates.
    private func pattern(of stage: Stage) async throws -> HomePattern {
        let uid = AccountTemplate.firstUID
        try await stage.request("add", uid..<uid + 1)
        try await DaemonRun(stage: stage, setup: DaemonSetup(task: .empty, slots: 1)).with { _ in
            try await stage.settle(within: .seconds(30))
        }
        guard try await stage.finishTimes(uid..<uid + 1).unfinished == 0 else {
            throw BenchFailure("the daemon could not add an account; see the history")
        }
        let text = try Files.read(stage.configurations.appending("\(uid).conf"))
        return HomePattern(configuration: text, of: uid)
    }

    // MARK: Speed

    private func speed(on stage: Stage) async throws {
        let limits = Limits(stage: stage)
        var best: [(kind: Limits.Kind, overlap: BenchPlan.Overlap)] = []
        try await attempt(.limits) {
            recorder.add("single.modify", try await limits.roundTrips(plan.singles))
            recorder.add("single.start", try await Limits.starts(plan.singles))
            try await limitOfWrites(limits)
            try await limitOfProcesses()
            for kind in Limits.Kind.allCases {
                if let overlap = try await bestOverlap(kind, limits) { best.append((kind, overlap)) }
            }
            for (kind, overlap) in best { try await combined(kind, limits, overlap) }
        }
        try await attempt(.baselines) {
            for (baseline, jobs) in [(Baseline.shell, plan.shellJobs), (.perl, plan.perlJobs)] {
                let uids = stage.first(jobs)
                try await stage.request("modify", uids)
                try await baseline.run(on: stage)
                try await add("baseline.\(baseline)", [:], stage, uids)
            }
        }
        try await attempt(.throughput) {
            for setup in plan.setups { try await ours(setup, on: stage) }
        }
        // Again at the end, so that a change of the machine's speed does not distort the ratio.
        try await attempt(.limits) {
            for (kind, overlap) in best { try await combined(kind, limits, overlap) }
        }
        try await attempt(.latency) { try await latency(on: stage) }
    }

    private func limitOfWrites(_ limits: Limits) async throws {
        var tried: [(overlap: BenchPlan.Overlap, rate: Double)] = []
        let uids = limits.stage.first(plan.scoutJobs)
        var seen: Set<BenchPlan.Overlap> = []
        for overlap in plan.overlaps {
            var overlap = overlap
            overlap.spawners = 0
            guard seen.insert(overlap).inserted else { continue }
            try await limits.stage.request("modify", uids)
            let rate = Double(uids.count) / (try await limits.ldap(uids, overlap))
            tried.append((overlap, rate))
        }
        guard let best = tried.max(by: { $0.rate < $1.rate })?.overlap else { return }
        let all = limits.stage.first(plan.jobs)
        try await limits.stage.request("modify", all)
        let seconds = try await limits.ldap(all, best)
        recorder.add(
            Measurement(
                "limit.ldap",
                ["jobs": .number(all.count), "connections": .number(best.connections), "window": .number(best.window)],
                [Figure.rate: max(Double(all.count) / seconds, tried.map(\.rate).max() ?? 0)]))
    }

    private func limitOfProcesses() async throws {
        var best = (threads: 0, rate: 0.0)
        for threads in plan.spawners {
            let rate = Double(plan.jobs) / (try await Limits.spawn(plan.jobs, threads: threads))
            if rate > best.rate { best = (threads, rate) }
        }
        recorder.add(
            Measurement(
                "limit.spawn", ["jobs": .number(plan.jobs), "threads": .number(best.threads)], [Figure.rate: best.rate])
        )
    }

    private func bestOverlap(_ kind: Limits.Kind, _ limits: Limits) async throws -> BenchPlan.Overlap? {
        var best: (overlap: BenchPlan.Overlap, rate: Double)?
        let uids = limits.stage.first(plan.scoutJobs)
        for overlap in plan.overlaps {
            try await limits.stage.request("modify", uids)
            let rate = Double(uids.count) / (try await limits.combined(kind, uids, overlap))
            recorder.note("\(kind.rawValue), tried with \(overlap): \(Decimals.text(rate)) jobs/s")
            if rate > best?.rate ?? 0 { best = (overlap, rate) }
        }
        return best?.overlap
    }

    private func combined(_ kind: Limits.Kind, _ limits: Limits, _ overlap: BenchPlan.Overlap) async throws {
        let uids = limits.stage.first(plan.jobs)
        try await limits.stage.request("modify", uids)
        _ = try await limits.combined(kind, uids, overlap)
        try await add(
            kind.rawValue,
            [
                "connections": .number(overlap.connections), "window": .number(overlap.window),
                "spawners": .number(overlap.spawners),
            ], limits.stage, uids)
    }

    private func ours(_ setup: DaemonSetup, on stage: Stage) async throws {
        let uids = stage.first(setup.task == .add ? plan.scriptJobs : plan.jobs)
        if setup.task == .add { try stage.removeHomes(uids) }
        try await stage.request(setup.task == .add ? "add" : "modify", uids)
        let facts = try await DaemonRun(stage: stage, setup: setup).with { daemon in
            try await stage.settle(within: .seconds(120))
            return try daemon.facts()
        }
        try await add(
            setup.task.rawValue,
            ["slots": .number(setup.slots), "detection": .text(setup.detection.rawValue)], stage, uids,
            [
                Figure.peak: ProcessFacts.megabytes(facts.peak), Figure.cpu: facts.processorTime,
                Figure.switches: Double(facts.switches),
            ])
    }

    /// Adds a measurement of jobs per second, from the entries.
    private func add(
        _ name: String, _ conditions: [String: Measurement.Condition], _ stage: Stage, _ uids: Range<Int>,
        _ figures: [String: Double?] = [:]
    ) async throws {
        let times = try await stage.finishTimes(uids)
        guard times.unfinished == 0 else {
            throw BenchFailure("\(name) left \(times.unfinished) of \(uids.count) accounts undone")
        }
        recorder.add(
            Measurement(
                name, conditions.merging(["jobs": .number(uids.count)]) { first, _ in first },
                figures.merging([Figure.rate: times.rate]) { first, _ in first }))
    }

    private func latency(on stage: Stage) async throws {
        let samples = try await DaemonRun(stage: stage, setup: DaemonSetup(task: .modify, slots: 4)).with { _ in
            try await stage.settle(within: .seconds(30))
            return try await LatencyProbe(stage: stage).run(plan.latencyRequests, uid: AccountTemplate.firstUID)
        }
        recorder.add("latency.adding", samples.adding)
        recorder.add("latency.added", samples.added)
    }

    // MARK: Size

    private func scale(from empty: Stage) async throws {
        var stage = empty
        for size in plan.sizes {
            recorder.note("making \(size) accounts")
            stage = try await stage.growing(by: size - stage.accounts)
            let uids = stage.last(BenchPlan.pendingOfSize)
            try await prepareHomes(stage, uids)
            try await start(stage, uids)
            if size == plan.idleSize { try await idle(stage) }
        }
    }

    private static let sizeSetup = DaemonSetup(task: .modify, slots: 8)

    private func start(_ stage: Stage, _ uids: Range<Int>) async throws {
        var seconds: [Double] = []
        var facts: ProcessFacts?
        for turn in 1...plan.starts {
            try await stage.request("modify", uids)
            let run = DaemonRun(stage: stage, setup: Self.sizeSetup)
            let (started, found) = try await run.with { daemon in
                try await stage.settle(within: .seconds(120))
                if turn == plan.starts { try await Self.rest() }
                return (daemon.started, try daemon.facts())
            }
            let times = try await stage.finishTimes(uids)
            guard let last = times.times.last, times.unfinished == 0 else {
                throw BenchFailure("\(times.unfinished) of \(uids.count) accounts were left undone")
            }
            seconds.append(last - started)
            facts = found
        }
        recorder.add(
            Measurement(
                "scale",
                [
                    "accounts": .number(stage.accounts), "pending": .number(uids.count),
                    "starts": .number(plan.starts), "slots": .number(Self.sizeSetup.slots),
                ],
                [
                    Figure.seconds: Distribution(seconds).median,
                    Figure.resident: facts.map { ProcessFacts.megabytes($0.resident) },
                    Figure.peak: facts.map { ProcessFacts.megabytes($0.peak) },
                ]))
    }

    /// Waits until the idle threads of the start have ended.
    private static func rest() async throws { try await Task.sleep(for: .seconds(8)) }

    private func idle(_ stage: Stage) async throws {
        let run = DaemonRun(stage: stage, setup: Self.sizeSetup)
        let (before, after, time) = try await run.with { daemon in
            try await stage.settle(within: .seconds(30))
            try await Self.rest()
            try await Self.finishReview(of: daemon)
            let begin = ContinuousClock.now
            let before = try daemon.facts()
            try await Task.sleep(for: plan.idleTime)
            return (before, try daemon.facts(), (ContinuousClock.now - begin) / .seconds(1))
        }
        let cpu = after.processorTime - before.processorTime
        recorder.add(
            Measurement(
                "idle", ["accounts": .number(stage.accounts), "threads": .number(after.threads)],
                [
                    Figure.seconds: time, Figure.cpu: cpu, Figure.fraction: cpu / time,
                    Figure.switches: Double(after.switches(since: before)),
                    Figure.resident: ProcessFacts.megabytes(after.resident),
                ]))
    }

    /// Waits until the daemon has reviewed the backups of all accounts, which it does once at its start: until it uses less than 5 ms of CPU in
    /// a second.
    private static func finishReview(of daemon: DaemonRun.Running) async throws {
        for _ in 0..<120 {
            let before = try daemon.facts().processorTime
            try await Task.sleep(for: .seconds(1))
            if try daemon.facts().processorTime - before < 0.005 { return }
        }
    }

    /// Requests `delete`, which by default keeps the home: it needs no files, only claim and finish, so that only the daemon is measured.
    private func pending(on empty: Stage) async throws {
        recorder.note("making \(plan.pending) requests")
        let stage = try await empty.growing(by: plan.pending, requesting: plan.pending, .delete)
        let setup = DaemonSetup(task: .delete, slots: 8)
        let facts = try await DaemonRun(stage: stage, setup: setup).with { daemon in
            if let time = plan.pendingTime {
                try await Task.sleep(for: time)
            } else {
                try await stage.settle(within: .seconds(1_200))
            }
            return try daemon.facts()
        }
        let times = try await stage.finishTimes(stage.last(plan.pending))
        recorder.add(
            Measurement(
                setup.task.rawValue,
                [
                    "requests": .number(plan.pending), "slots": .number(setup.slots),
                    "done": .number(times.times.count),
                ],
                [
                    Figure.rate: times.rate, Figure.peak: ProcessFacts.megabytes(facts.peak),
                    Figure.resident: ProcessFacts.megabytes(facts.resident),
                ]))
    }
}
