import DirectoryModel
import JobCore
import TestSupport
import Testing

@testable import Provisioning

@Suite struct AccountQueueTests {
    private let now = WallTime(secondsSince1970: 1_000)
    private func uuid(_ number: UInt8) throws -> EntryUUID {
        try #require(EntryUUID(bytes: [UInt8](repeating: 0, count: 15) + [number]))
    }
    private func queue(limit: Int = 100) throws -> AccountQueue {
        AccountQueue(base: try DN(parsing: "ou=accounts,dc=example"), limit: limit)
    }
    private func key(_ number: UInt8) throws -> AccountKey {
        AccountKey(uuid: try uuid(number), dn: try DN(parsing: "uid=\(number),ou=accounts,dc=example"))
    }

    @Test(
        "where an account was last seen comes back as it was, wherever it is and however it is written",
        arguments: [
            "uid=1,ou=accounts,dc=example", "uid=1,OU=Accounts, dc=example",
            "cn=a\\,b\\\\,ou=deep\\ ,ou=accounts,dc=example",
            "cn=a+uid=1,ou=accounts,dc=example", "ou=accounts,dc=example", "uid=1,ou=elsewhere,dc=example",
            "cn=\\,,dc=else", "cn=#04024869,ou=accounts,dc=example", "uid=\\01\\FF,ou=accounts,dc=example", "",
        ])
    func names(text: String) throws {
        var queue = try queue()
        let key = AccountKey(uuid: try uuid(1), dn: try DN(parsing: text))
        queue.offer(key, priority: 10)
        #expect(queue.key(of: key.uuid) == key)
    }

    @Test("the place where an account was seen last counts, and it is forgotten with its last turn")
    func lastPlace() throws {
        var queue = try queue()
        let moved = AccountKey(uuid: try uuid(1), dn: try DN(parsing: "uid=new,ou=accounts,dc=example"))
        queue.offer(try key(1), priority: 10)
        queue.offer(moved, priority: 10)
        #expect(queue.start(now: now, priority: .max) == moved.uuid)
        #expect(queue.finish(moved.uuid, again: now, ignoringOffers: false) == now)
        #expect(queue.key(of: moved.uuid) == moved)
        #expect(queue.start(now: now, priority: .max) == moved.uuid)
        #expect(queue.finish(moved.uuid, again: nil, ignoringOffers: false) == nil)
        #expect(queue.key(of: moved.uuid) == nil)
    }

    @Test("it is full when so many are due; those that wait for their day do not count, and room comes in pieces")
    func bound() throws {
        var queue = try queue(limit: 16)
        for number in 1...20 { queue.offer(try key(UInt8(number)), priority: 10) }
        #expect(queue.isFull)
        for number in 1...20 { queue.offer(try key(UInt8(number)), priority: 10) }
        var started: [EntryUUID] = []
        while !queue.hasRoomAgain, let next = queue.start(now: now, priority: 10) { started.append(next) }
        #expect(started.count == 7)
        #expect(started == (try (1...7).map { try uuid(UInt8($0)) }))
        for uuid in started { _ = queue.finish(uuid, again: now + .seconds(60), ignoringOffers: false) }
        #expect(queue.waitingCount == 20)
        #expect(queue.hasRoomAgain && !queue.isFull)
        #expect(queue.nextDue() == now + .seconds(60))
        #expect(queue.start(now: now + .seconds(60), priority: 1) == nil)
        #expect(queue.isFull)
    }

    @Test("one that has left the pending set is looked at if it waits, and is no reason otherwise")
    func hastened() throws {
        var queue = try queue()
        queue.hasten(try uuid(1))
        #expect(queue.waitingCount == 0)
        queue.offer(try key(1), priority: 10)
        let started = try uuid(1)
        #expect(queue.start(now: now, priority: 10) == started)
        queue.hasten(started)
        #expect(queue.finish(started, again: now + .seconds(60), ignoringOffers: false) == now + .seconds(60))
        queue.hasten(started)
        #expect(queue.start(now: now, priority: 10) == started)
    }
}
