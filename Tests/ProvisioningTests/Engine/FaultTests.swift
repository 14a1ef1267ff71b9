import LDAP
import Sandbox
import Glibc
import JobCore
import Provisioning
import Synchronization
import TestSupport
import Testing

/// Faults of the old daemon, and failures of server, daemon and network during jobs.
@Suite struct FaultTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)
    private static let midnight = noon + .seconds(12 * 3600)

    @Test("F1: a request for tomorrow starts by itself when the day begins, also after a restart")
    func dueDate() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            try await harness.add("4000001", date: "20261122")
            try await harness.running { _ in
                try await eventually("it waits for midnight") { clock.deadlines.contains(Self.midnight) }
            }
            #expect(harness.service.asked.isEmpty)
            try await harness.running { _ in
                try await eventually("it waits for midnight") { clock.deadlines.contains(Self.midnight) }
                clock.advance(to: Self.midnight)
                try await harness.expectMode("added", of: "4000001")
            }
            #expect(try await harness.entry("4000001")?.text("sstProvisioningState") == "20261122T000000Z")
        }
    }

    @Test(
        "F1: a request whose date passed while the daemon did not run is done at the start; with OVERDUE = skip it stays"
    )
    func overdue() async throws {
        try await EngineHarness.run(clock: ManualClock(Self.noon)) { harness in
            try await harness.add("4000001", date: "20261101")
            let skipping = try await harness.engine { $0.policy.runsOverdue = false }
            try await skipping.runOnce()
            #expect(try await harness.mode("4000001") == "add")
            await skipping.stop(grace: .zero)
            let engine = try await harness.engine()
            try await engine.runOnce()
            #expect(try await harness.mode("4000001") == "added")
            await engine.stop(grace: .zero)
        }
    }

    @Test(
        "a request whose mode and state have blanks and capitals, which the server finds by its own comparison, is carried out"
    )
    func blanks() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { _ in
                try await harness.add("4000001", mode: " Modify  ", state: "0 ")
                try await harness.expectMode("modified", of: "4000001")
            }
            #expect(harness.service.asked.count == 1)
        }
    }

    @Test("F3: a failure writes its code to the entry and nothing runs again, until there is another request")
    func failureIsVisible() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { _ in
                throw ProvisioningFailure(.cannotCreateHomeDir, reason: "the script exited with 1", hint: "fix it")
            }
            try await harness.running { engine in
                try await harness.add("4000001")
                try await eventually("the code is there") { try await harness.returnValue("4000001") == "5" }
                let entry = try #require(try await harness.entry("4000001"))
                #expect(entry.text("sstProvisioningMode") == "adding")
                #expect(entry.text("sstProvisioningState") == "0")
                harness.service.doing { _ in }
                try await harness.request("4000001", "add")
                try await harness.expectMode("added", of: "4000001")
                #expect(try await harness.returnValue("4000001") == "0")
            }
            #expect(harness.service.asked.count == 2)
        }
    }

    @Test(
        "F3: a retryable failure is tried again under the same job with the next attempt number, then written to the entry"
    )
    func retries() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { call in
                guard call.uid == "4000002" || call.attempt < 3 else { return }
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            try await harness.running { _ in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
                try await harness.add("4000002")
                try await eventually("the last failure is told") { try await harness.returnValue("4000002") == "6" }
            }
            let first = harness.service.asked.filter { $0.uid == "4000001" }
            #expect(first.map(\.attempt) == [1, 2, 3])
            #expect(Set(first.map(\.job)).count == 1)
            #expect(harness.service.asked.filter { $0.uid == "4000002" }.map(\.attempt) == [1, 2, 3])
        }
    }

    @Test("F4: mode, state and ReturnValue change in one write: no reader ever sees one without the others")
    func oneWrite() async throws {
        try await EngineHarness.run { harness in
            let seen = Mutex<[[String?]]>([])
            let watcher = try await EngineHarness.connect(harness.sandbox)
            let watching = Task {
                let names: [AttributeName] = [
                    "sstProvisioningMode", "sstProvisioningState", "sstProvisioningReturnValue",
                ]
                let request = SearchRequest(
                    base: try EngineHarness.base, filter: .present("sstProvisioningMode"), attributes: names)
                for try await case .entry(let entry, _) in watcher.contentSync(request) {
                    seen.withLock { $0.append(names.map { entry.text($0) }) }
                }
            }
            try await harness.running { _ in
                for number in 0..<20 { try await harness.add("40000\(10 + number)") }
                for number in 0..<20 { try await harness.expectMode("added", of: "40000\(10 + number)") }
                try await eventually("the watcher has seen them all") {
                    seen.withLock { $0.filter { $0[0] == "added" }.count } == 20
                }
            }
            watching.cancel()
            for row in seen.withLock({ $0 }) {
                switch row[0] {
                case "add", "adding": #expect(row[1] == "0" && row[2] == nil)
                default: #expect(row[1] != "0" && row[2] == "0")
                }
            }
        }
    }

    @Test("F5: a request that is written during a job wins, and is done next with its own values")
    func newWishWins() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { if $0.operation == .add { await gate.pass() } }
            try await harness.running { _ in
                try await harness.add("4000001", quota: "1")
                try await eventually("the job runs") { !harness.service.asked.isEmpty }
                try await harness.request("4000001", "modify", quota: "2")
                gate.open()
                try await harness.expectMode("modified", of: "4000001")
            }
            #expect(harness.service.asked.map(\.operation) == [.add, .modify])
            #expect(harness.service.asked.map(\.quota) == ["1", "2"])
        }
    }

    @Test("F5: a request that is rewritten between read and claim is done with the values written last")
    func rewrittenWish() async throws {
        try await EngineHarness.run { harness in
            try await harness.running {
                $0.slots = 1
            } _: { _ in
                for number in 0..<30 {
                    let uid = "40000\(10 + number)"
                    try await harness.add(uid, quota: "1")
                    try await harness.request(uid, "add", quota: "2")
                    try await harness.expectMode("added", of: uid)
                    let last = harness.service.asked.last { $0.uid == uid }
                    #expect(last?.quota == "2")
                }
            }
        }
    }

    @Test("F6: an interrupted job is resumed and not repeated as new: the same number, the next attempt")
    func resume() async throws {
        try await EngineHarness.run { harness in
            let gate = Gate()
            harness.service.doing { _ in await gate.pass() }
            let crashed = try await harness.engine()
            await crashed.start()
            try await harness.add("4000001")
            try await eventually("the job runs") { !harness.service.asked.isEmpty }
            // Its connections are closed and its outcome is never written, as after SIGKILL.
            let abandoned = Task { await crashed.stop(grace: .zero) }
            try await harness.add("4000002", mode: "modifying")
            let next = RecordingService()
            let engine = try await harness.engine { $0.service = next }
            await engine.recover(harness.interruptedJobs)
            await engine.start()
            try await harness.expectMode("added", of: "4000001")
            try await harness.expectMode("modified", of: "4000002")
            await engine.stop(grace: .zero)
            gate.open()
            await abandoned.value
            let first = try #require(harness.service.asked.first)
            let resumed = try #require(next.asked.first { $0.uid == "4000001" })
            #expect(resumed.job == first.job)
            #expect(resumed.attempt == 2)
            #expect(try #require(next.asked.first { $0.uid == "4000002" }).attempt > 1)
        }
    }

    @Test("a stop gives running jobs their grace period; jobs that do not finish can be resumed")
    func stop() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            let gate = Gate()
            harness.service.doing { call in
                if call.uid == "4000001" { await gate.pass() } else { try await Task.sleep(for: .seconds(3600)) }
            }
            let engine = try await harness.engine()
            await engine.start()
            try await harness.add("4000001")
            try await harness.add("4000002")
            try await eventually("both run") { harness.service.asked.count == 2 }
            let end = Self.noon + .seconds(77)
            let stopped = Task { await engine.stop(grace: .seconds(77)) }
            try await eventually("the grace runs") { clock.deadlines.contains(end) }
            gate.open()
            try await harness.expectMode("added", of: "4000001")
            clock.advance(to: end)
            await stopped.value
            let entry = try #require(try await harness.entry("4000002"))
            #expect(entry.text("sstProvisioningMode") == "adding")
            #expect(entry.text("sstProvisioningReturnValue") == nil)
        }
    }

    @Test(
        "F10: the server is killed and restarted many times; no request is lost, and the log has one message per change"
    )
    func serverKilled() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { _ in try await Task.sleep(for: .milliseconds(20)) }
            try await harness.running { engine in
                for round in 0..<5 {
                    for number in 0..<6 { try await harness.add("40\(round)00\(number)") }
                    try await harness.sandbox.kill()
                    try await harness.sandbox.restart()
                    try await harness.reconnect()
                }
                for round in 0..<5 {
                    for number in 0..<6 { try await harness.expectMode("added", of: "40\(round)00\(number)") }
                }
            }
            #expect(!harness.service.hasOverlapped)
            // On a slow machine a connection may also be lost to a time limit, so the number is not known.
            let changes = harness.messages.compactMap { message in
                message.contains("LDAP server is unreachable")
                    ? false : message.contains("LDAP server is reachable again") ? true : nil
            }
            #expect(changes.contains(true))
            #expect(changes == changes.indices.map { $0 % 2 == 1 })
        }
    }

    @Test("the server is killed during the writes of many accounts, and each gets its outcome")
    func serverKilledUnderWrites() async throws {
        try await EngineHarness.run { harness in
            let uids = (0..<40).map { "\($0)" }
            for uid in uids { try await harness.add(uid) }
            try await harness.running {
                $0.slots = 16
            } _: { _ in
                try await eventually("some are done") { harness.service.asked.count > 5 }
                try await harness.sandbox.kill()
                try await harness.sandbox.restart()
                try await harness.reconnect()
                for uid in uids { try await harness.expectMode("added", of: uid) }
            }
            #expect(Set(harness.service.asked.map(\.uid)).count == 40)
        }
    }

    @Test("the LDAP server may be unreachable at the start for any time")
    func awayAtStart() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001")
            try await harness.sandbox.kill()
            try await harness.running {
                // After the first connection, an error would come much later.
                $0.ldapAttemptsUntilError = (3, 1_000)
            } _: { engine in
                try await eventually("it has been said loudly") {
                    harness.messages.contains { $0.hasPrefix("error") && $0.contains("still unreachable") }
                }
                let snapshot = await engine.snapshot()
                #expect(!snapshot.isLDAPAvailable)
                #expect(snapshot.ldapError?.code == .connectError)
                try await harness.sandbox.restart()
                try await harness.reconnect()
                try await harness.expectMode("added", of: "4000001")
                try await eventually("it is back") { await engine.snapshot().isLDAPAvailable }
                #expect(await engine.snapshot().ldapError == nil)
            }
            #expect(harness.messages.filter { $0.hasPrefix("error") }.count == 1)
        }
    }

    @Test("F12: a dry run prints the plan of each account and changes nothing in LDAP")
    func dryRun() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001")
            try await harness.add("4000002", mode: "deleting")
            let before = try await [harness.entry("4000001"), harness.entry("4000002")]
            let shown = Mutex<[String]>([])
            let engine = try await harness.engine(planPrinter: { text in shown.withLock { $0.append(text) } })
            try await engine.runOnce()
            await engine.stop(grace: .zero)
            #expect(try await [harness.entry("4000001"), harness.entry("4000002")] == before)
            #expect(harness.service.asked.isEmpty)
            let plans = shown.withLock { $0 }.joined(separator: "\n")
            #expect(plans.contains("uid=4000001,\(try EngineHarness.base): add"))
            #expect(plans.contains("delete sstProvisioningMode: add; add sstProvisioningMode: adding"))
            #expect(plans.contains("would work on 4000001"))
            #expect(plans.contains("uid=4000002,\(try EngineHarness.base): delete (resumed)"))
        }
    }

    @Test("F13: text from LDAP is never a format, and a failure's words reach the job's end as they are")
    func percentSigns() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { _ in
                throw ProvisioningFailure(.undefinedError, reason: "100%s %n %@ of it", hint: "none")
            }
            try await harness.running { _ in
                try await harness.add("4000001")
                try await eventually("failed") { try await harness.returnValue("4000001") == "1" }
                // A stop before that would leave the job open.
                try await eventually("the job is closed") { !harness.recorder.closed.isEmpty }
            }
            #expect(harness.recorder.closed.contains { $0.message.contains("100%s %n %@ of it") })
        }
    }

    @Test("one bad entry does not affect the others")
    func badEntry() async throws {
        try await EngineHarness.run { harness in
            try await harness.running { _ in
                try await harness.add("4000001", date: "20261399")
                try await harness.add("4000002")
                try await harness.expectMode("added", of: "4000002")
                try await eventually("refused") { try await harness.returnValue("4000001") == "1" }
            }
            #expect(harness.service.asked.map(\.uid) == ["4000002"])
        }
    }

    @Test("RETURN_VALUE empty: a failure is not written to the entry, and is tried again only after the longest delay")
    func noReturnValue() async throws {
        try await EngineHarness.run(clock: ManualClock(Self.noon)) { harness in
            harness.service.doing { _ in throw ProvisioningFailure(.undefinedError, reason: "no", hint: "none") }
            let engine = try await harness.engine {
                $0.scope.names.returnValue = nil
            }
            try await harness.add("4000001")
            try await engine.runOnce()
            try await engine.runOnce()
            #expect(harness.service.asked.count == 1)
            #expect(try await harness.mode("4000001") == "adding")
            #expect(await engine.snapshot().waiting == 1)
            await engine.stop(grace: .zero)
        }
    }

    @Test("RETURN_VALUE empty: a request that is refused is not claimed, so that its work is never done")
    func refusedWithoutReturnValue() async throws {
        let clock = ManualClock(Self.noon)
        try await EngineHarness.run(clock: clock) { harness in
            let engine = try await harness.engine {
                $0.scope.names.returnValue = nil
            }
            try await harness.add("4000001", mode: "delete", date: "2027010")
            for _ in 1...2 {
                try await engine.runOnce()
                #expect(try await harness.mode("4000001") == "delete")
                clock.advance(to: clock.now + .seconds(3600))
            }
            #expect(harness.service.asked.isEmpty)
            #expect(harness.messages.contains { $0.contains("refused") && $0.contains("2027010") })
            try await harness.set("4000001", "sstProvisioningExecutionDate", "0")
            try await engine.runOnce()
            #expect(harness.service.asked.map(\.operation) == [.delete])
            await engine.stop(grace: .zero)
        }
    }

    @Test("a claim that the access rules refuse is logged with its hint, and tried again")
    func noRights() async throws {
        try await EngineHarness.run { harness in
            try await harness.add("4000001")
            let engine = try await harness.engine {
                // The daemon may not write this attribute.
                $0.scope.names.returnValue = "sstQuota"
            }
            await engine.start()
            try await eventually("it is said") {
                harness.messages.contains { $0.contains("cannot be claimed") && $0.contains("access rules") }
            }
            #expect(try await harness.mode("4000001") == "add")
            await engine.stop(grace: .zero)
        }
    }

    @Test("daemons that share accounts: with a claim attribute each request is done once, by one of them")
    func sharedAccounts() async throws {
        try await EngineHarness.run { harness in
            var engines: [Engine] = []
            for holder in ["one", "two"] {
                engines.append(
                    try await harness.engine(state: holder) {
                        $0.scope.names.claim = "provisioningClaim"
                        $0.policy.claimHolder = holder
                    })
            }
            harness.service.doing { _ in try await Task.sleep(for: .milliseconds(5)) }
            for engine in engines { await engine.start() }
            let uids = (0..<30).map { "40000\(10 + $0)" }
            for uid in uids { try await harness.add(uid, classes: ["provisioningClaimable"]) }
            for uid in uids {
                try await harness.expectMode("added", of: uid)
                #expect(try await harness.entry(uid)?.text("provisioningClaim") == nil)
            }
            for engine in engines { await engine.stop(grace: .zero) }
            #expect(harness.service.asked.map(\.uid).sorted() == uids)
            #expect(harness.service.asked.allSatisfy { $0.attempt == 1 })
        }
    }

    @Test(
        "a job whose next attempt comes due while its window is closed keeps its count, and can be cancelled meanwhile")
    func retryOutOfWindow() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { _ in
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            var configuration = try harness.configuration()
            configuration.jobRetry = RetryPolicy(maximumAttempts: .max, delay: .seconds(1), maximumDelay: .seconds(1))
            let registry = configuration.executor.registry
            try await harness.running {
                $0 = configuration
            } _: { engine in
                try await harness.add("4000001")
                let first = try await waiting(engine)
                configuration.executor.policies[.provisioning] = JobPolicy(window: try Self.closedNow())
                await harness.reload(engine, configuration)
                try await eventually("it waits for its window") {
                    await engine.snapshot().retrying.contains { $0.next > first.next + .seconds(600) }
                }
                #expect(await registry.cancel(first.job))
                try await eventually("the cancelling is told") { try await harness.returnValue("4000001") != nil }
                try await eventually("it leaves the registry") { await registry.live().isEmpty }
            }
        }
    }

    @Test("a step that throws CancellationError of its own, as a time limit does, is logged once and tried again")
    func ownCancellation() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { call in if call.attempt < 3 { throw CancellationError() } }
            try await harness.running { _ in
                try await harness.add("4000001")
                try await harness.expectMode("added", of: "4000001")
                try await eventually("the job is closed") { !harness.recorder.closed.isEmpty }
            }
            #expect(harness.recorder.letters(of: try #require(harness.recorder.closed.first?.id)) == "RtRtRT")
            #expect(harness.messages.filter { $0.hasPrefix("error") }.count == 1)
        }
    }

    /// The one job that waits for its next attempt.
    private func waiting(_ engine: Engine) async throws -> RetrySummary {
        var record: RetrySummary?
        try await eventually("it waits for its next attempt") {
            record = await engine.snapshot().retrying.first
            return record != nil
        }
        return try #require(record)
    }

    /// A window of one minute that opens in twelve hours.
    private static func closedNow() throws -> TimeWindow {
        let minute = (DayCalendar.system.localTime(at: SystemWallClock().now).secondOfDay / 60 + 720) % 1_440
        func text(_ minute: Int) -> String {
            [minute / 60, minute % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
        }
        return try TimeWindow(parsing: "\(text(minute))-\(text((minute + 1) % 1_440))")
    }

    @Test("a job whose retry failed to start is closed when the entry asks for something else")
    func troubleThenOtherWish() async throws {
        try await EngineHarness.run { harness in
            harness.service.doing { call in
                guard call.operation == .add else { return }
                throw ProvisioningFailure(.cannotSetQuota, .retryable, reason: "busy", hint: "wait")
            }
            var configuration = try harness.configuration()
            configuration.jobRetry = RetryPolicy(maximumAttempts: .max, delay: .seconds(1), maximumDelay: .seconds(1))
            configuration.scope.names.claim = "provisioningClaim"
            configuration.policy.claimHolder = "one"
            let registry = configuration.executor.registry
            harness.service.unique.withLock { $0 = "uid" }
            try await harness.running {
                $0 = configuration
            } _: { engine in
                try await harness.add("4000001", classes: ["provisioningClaimable"])
                let job = try await waiting(engine).job
                harness.service.lockFailure.withLock {
                    $0 = ProvisioningFailure(
                        .cannotCheckHomeDirPresence, .configuration, reason: "no lock", hint: "make room")
                }
                try await eventually("trouble comes") { await engine.snapshot().troubled == 1 }
                harness.service.lockFailure.withLock { $0 = nil }
                try await harness.request("4000001", "modify")
                try await harness.expectMode("modified", of: "4000001")
                #expect(await registry.live(job) == nil)
            }
        }
    }
}
