import DirectoryClient
import DirectoryModel
import DirectorySandbox
import JobCore
import Logging
import TestSupport
import Testing

@testable import Provisioning

/// Writes that wait for one another go out together, and each comes to what it would have come to alone.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct GroupCommitTests {
    /// - Parameter clock: stands still unless it is moved: nothing goes because it has waited for long.
    private func groups(
        _ harness: EngineHarness, clock: ManualSteadyClock = ManualSteadyClock()
    ) throws -> GroupCommit {
        let configuration = try harness.configuration()
        let logger = Logger(label: "test") { _ in harness.log }
        let availability = DirectoryAvailability(attemptsUntilError: AttemptsUntilError(), logger: logger)
        let login = DirectoryLogin(
            servers: ServerList(configuration.servers), options: configuration.connection, availability: availability,
            clock: harness.clock)
        func link(_ name: String) -> DirectoryLink {
            DirectoryLink(
                name: name, login: login, retry: configuration.directoryRetry, availability: availability)
        }
        return GroupCommit(
            link: link("commit"), reader: AccountReader(link: link("work"), scope: configuration.scope),
            clock: clock, logger: logger)
    }

    private struct Member: Sendable {
        var write: EntryWrite
        var key: AccountKey
    }

    /// The claim of an account.
    private func claim(_ uid: String, _ harness: EngineHarness) async throws -> Member {
        let names = try harness.configuration().scope.names
        let status = try #require(try await harness.entry(uid).flatMap { AccountStatus($0, names: names) })
        return Member(write: .claim(status, holder: nil, names: names), key: status.key)
    }

    private func claims(_ uids: [String], _ harness: EngineHarness) async throws -> [Member] {
        var members: [Member] = []
        for uid in uids { members.append(try await claim(uid, harness)) }
        return members
    }

    /// A write that goes alone and is not answered yet, so that others wait for it.
    private func begin(_ harness: EngineHarness, _ groups: GroupCommit) async throws -> GroupCommit.Turn {
        try await harness.add("first")
        let first = try await claim("first", harness)
        guard case .alone(let turn, isDoubtful: false) = try await groups.enter(first.write, first.key) else {
            throw DeadlinePassed()
        }
        return turn
    }

    /// Enters members one after the other, so that they wait in this order.
    private func enter(
        _ members: [Member], _ groups: GroupCommit
    ) async throws -> [Task<GroupCommit.Answer, any Error>] {
        var tasks: [Task<GroupCommit.Answer, any Error>] = []
        for member in members {
            let before = await groups.waitingCount
            tasks.append(Task { try await groups.enter(member.write, member.key) })
            try await eventually("it waits") { await groups.waitingCount == before + 1 }
        }
        return tasks
    }

    @Test("what waits while a write is under way is written together when that is answered, and its entryCSNs are told")
    func together() async throws {
        try await EngineHarness.run { harness in
            let uids = ["1", "2", "3"]
            for uid in uids { try await harness.add(uid) }
            let groups = try groups(harness)
            let turn = try await begin(harness, groups)
            let tasks = try await enter(claims(uids, harness), groups)
            await groups.leave(turn)
            for (uid, task) in zip(uids, tasks) {
                guard case .written(let csn) = try await task.value else {
                    Issue.record("it went alone")
                    continue
                }
                let entry = try await harness.entry(uid)
                #expect(csn != nil && csn == entry?["entryCSN"].first)
                #expect(try await harness.mode(uid) == "adding")
            }
            // Nothing is under way any more: the next goes at once.
            let next = try await claim("first", harness)
            guard case .alone = try await groups.enter(next.write, next.key) else {
                Issue.record("somebody holds it back")
                return
            }
        }
    }

    @Test("a member that the server refuses goes alone, and the others are not lost")
    func refused() async throws {
        try await EngineHarness.run { harness in
            let uids = ["1", "2", "3", "4", "5"]
            for uid in uids { try await harness.add(uid) }
            let groups = try groups(harness)
            let turn = try await begin(harness, groups)
            let members = try await claims(uids, harness)
            // Changed since they were read.
            try await harness.wish("2", "delete")
            try await harness.manager.delete(members[4].key.dn)
            let tasks = try await enter(members, groups)
            await groups.leave(turn)
            for (place, task) in tasks.enumerated() {
                switch try await task.value {
                case .written: #expect([0, 2, 3].contains(place))
                case .alone(let turn, let isDoubtful):
                    #expect([1, 4].contains(place))
                    #expect(!isDoubtful)
                    await groups.leave(turn)
                }
            }
            for uid in ["1", "3", "4"] { #expect(try await harness.mode(uid) == "adding") }
            #expect(try await harness.mode("2") == "delete")
        }
    }

    @Test("one that is cancelled while it waits is not written")
    func cancelled() async throws {
        try await EngineHarness.run { harness in
            for uid in ["1", "2", "3"] { try await harness.add(uid) }
            let groups = try groups(harness)
            let turn = try await begin(harness, groups)
            let tasks = try await enter(claims(["1", "2", "3"], harness), groups)
            tasks[1].cancel()
            await #expect(throws: CancellationError.self) { try await tasks[1].value }
            await groups.leave(turn)
            for task in [tasks[0], tasks[2]] { _ = try await task.value }
            #expect(try await harness.mode("1") == "adding")
            #expect(try await harness.mode("2") == "add")
        }
    }

    @Test("a write that is not answered does not hold the others back for long")
    func stuck() async throws {
        try await EngineHarness.run { harness in
            for uid in ["1", "2"] { try await harness.add(uid) }
            let clock = ManualSteadyClock()
            let groups = try groups(harness, clock: clock)
            _ = try await begin(harness, groups)
            let tasks = try await enter(claims(["1", "2"], harness), groups)
            clock.advance(by: GroupCommit.longestTurn)
            for task in tasks {
                guard case .written = try await task.value else {
                    Issue.record("they could have gone together")
                    continue
                }
            }
        }
    }

    @Test("where the server does not tell when it is done with a member, writes go one by one, and one line says why")
    func unwatched() async throws {
        var options = SandboxOptions.testing
        options.monitor = false
        try await EngineHarness.run(sandbox: options) { harness in
            for uid in ["1", "2", "3"] { try await harness.add(uid) }
            let groups = try groups(harness)
            let turn = try await begin(harness, groups)
            let tasks = try await enter(claims(["1", "2", "3"], harness), groups)
            await groups.leave(turn)
            for task in tasks {
                guard case .alone(_, isDoubtful: false) = try await task.value else {
                    Issue.record("it went with others")
                    continue
                }
            }
            #expect(harness.messages.count { $0.contains("monitor.conf") } == 1)
        }
    }

    @Test("a group whose connection is lost is in doubt, and each member comes to its end alone")
    func serverKilled() async throws {
        try await EngineHarness.run { harness in
            let uids = (0..<40).map { "\($0)" }
            for uid in uids { try await harness.add(uid) }
            try await harness.running({
                $0.slots = 16
                $0.groupCommit = .auto
            }) { _ in
                try await eventually("some are done") { harness.service.asked.count > 5 }
                try await harness.sandbox.kill()
                try await harness.sandbox.restart()
                try await harness.reconnect()
                for uid in uids { try await harness.expectMode("added", of: uid) }
            }
            #expect(Set(harness.service.asked.map(\.uid)).count == 40)
        }
    }
}
