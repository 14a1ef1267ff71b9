import DirectoryClient
import DirectoryModel
import JobCore
import Logging
import TestSupport
import Testing

@testable import Provisioning

/// Writes that wait for one another go out together, and each comes to what it would have come to alone.
@Suite(.serialized, .timeLimit(.minutes(3)))
struct GroupCommitTests {
    private static let mode: AttributeName = "sstProvisioningMode"

    private func groups(_ harness: EngineHarness) throws -> GroupCommit {
        let configuration = try harness.configuration()
        let logger = Logger(label: "test") { _ in harness.log }
        return GroupCommit(
            link: DirectoryLink(
                name: "commit", servers: ServerList(configuration.servers), options: configuration.connection,
                retry: configuration.directoryRetry,
                availability: DirectoryAvailability(attemptsUntilError: 3, logger: logger)), logger: logger)
    }

    private func member(_ uid: String, from old: String = "add", to new: String = "adding") throws -> TransactionMember
    {
        TransactionMember(
            try EngineHarness.dn(uid),
            [.delete(Self.mode, AttributeValue(old)), .add(Self.mode, AttributeValue(new))])
    }

    /// Enters members one after the other, so that they wait in this order.
    private func enter(
        _ members: [TransactionMember], _ groups: GroupCommit
    ) async throws -> [Task<GroupCommit.Answer, any Error>] {
        var tasks: [Task<GroupCommit.Answer, any Error>] = []
        for member in members {
            let before = await groups.waitingCount
            tasks.append(Task { try await groups.enter(member) })
            try await eventually("it waits") { await groups.waitingCount == before + 1 }
        }
        return tasks
    }

    @Test("what waits while a write is under way is written together when that is answered")
    func together() async throws {
        try await EngineHarness.run { harness in
            for uid in ["1", "2", "3"] { try await harness.add(uid) }
            let groups = try groups(harness)
            guard case .alone(let turn, isDoubtful: false) = try await groups.enter(member("0")) else {
                Issue.record("the first does not wait")
                return
            }
            let tasks = try await enter(["1", "2", "3"].map { try member($0) }, groups)
            await groups.leave(turn)
            for task in tasks {
                guard case .written = try await task.value else {
                    Issue.record("it went alone")
                    continue
                }
            }
            for uid in ["1", "2", "3"] { #expect(try await harness.mode(uid) == "adding") }
            // Nothing is under way any more: the next goes at once.
            guard case .alone = try await groups.enter(member("0")) else {
                Issue.record("somebody holds it back")
                return
            }
        }
    }

    @Test("a member that the server refuses goes alone, and the others are not lost")
    func refused() async throws {
        try await EngineHarness.run { harness in
            for uid in ["1", "2", "3", "4"] { try await harness.add(uid) }
            let groups = try groups(harness)
            guard case .alone(let turn, _) = try await groups.enter(member("0")) else { return }
            var members = try ["1", "2", "3", "4"].map { try member($0) }
            members[1] = try member("2", from: "delete")
            members.append(try member("nobody"))
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
            #expect(try await harness.mode("2") == "add")
        }
    }

    @Test("one that is cancelled while it waits is not written")
    func cancelled() async throws {
        try await EngineHarness.run { harness in
            for uid in ["1", "2", "3"] { try await harness.add(uid) }
            let groups = try groups(harness)
            guard case .alone(let turn, _) = try await groups.enter(member("0")) else { return }
            let tasks = try await enter(["1", "2", "3"].map { try member($0) }, groups)
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
            let groups = try groups(harness)
            guard case .alone = try await groups.enter(member("0")) else { return }
            for task in try await enter(["1", "2"].map { try member($0) }, groups) {
                guard case .written = try await task.value else {
                    Issue.record("they could have gone together")
                    continue
                }
            }
        }
    }

    @Test("a group whose connection is lost is in doubt, and each member comes to its end alone")
    func serverKilled() async throws {
        try await EngineHarness.run { harness in
            let uids = (0..<40).map { "\($0)" }
            for uid in uids { try await harness.add(uid) }
            try await harness.running({ $0.slots = 16 }) { _ in
                try await eventually("some are done") { harness.service.asked.count > 5 }
                try await harness.sandbox.kill()
                try await harness.sandbox.restart()
                try await harness.reconnect()
                for uid in uids { try await harness.expectMode("added", of: uid) }
            }
            #expect(Set(harness.service.asked.map(\.uid)).count == 40)
        }
    }

    @Test("an echo is told by how the entry stood, once for each write")
    func echoes() {
        let stand = Sighting.Stand(mode: "adding", state: "0", returnValue: nil, claim: nil)
        var sighting = Sighting.none
        sighting.stand = stand
        sighting.csn = "1"
        var own = OwnWrites()
        var echoes = Echoes()
        #expect(echoes.areAll(knowing: own))
        // The echo may come before the answer.
        echoes.saw(sighting)
        #expect(!echoes.areAll(knowing: own))
        echoes.wrote(stand)
        #expect(echoes.areAll(knowing: own))
        sighting.csn = "2"
        echoes.saw(sighting)
        #expect(!echoes.areAll(knowing: own), "the second is somebody's")
        own.insert("2")
        #expect(echoes.areAll(knowing: own))
        echoes.saw(.none)
        #expect(!echoes.areAll(knowing: own), "nobody knows what that was")
    }
}
