import DirectoryClient
import DirectoryModel
import DirectorySandbox
import Testing

/// Follows the events of one synchronization in the order in which they come.
struct Follower {
    var iterator: ContentSync.Iterator

    init(_ connection: DirectoryConnection, _ request: ContentSyncRequest = .open) {
        iterator = connection.contentSync(request).makeAsyncIterator()
    }

    /// The next event that is about an entry or the end of the refresh.
    mutating func next() async throws -> SyncEvent {
        while let event = try await iterator.next() {
            switch event {
            case .cookie, .phaseDone: continue
            default: return event
            }
        }
        throw Ended()
    }

    /// The DNs of all entries until the refresh is done.
    mutating func refresh() async throws -> [DN] {
        var names: [DN] = []
        while true {
            switch try await next() {
            case .entry(let entry, _, .add): names.append(entry.dn)
            case .refreshDone: return names
            case let event: Issue.record("a refresh without a cookie has no \(event)")
            }
        }
    }

    struct Ended: Error {}
}

extension ContentSyncRequest {
    /// What has the title `open` below `ou=tests`.
    static var open: ContentSyncRequest {
        ContentSyncRequest(base: .tests, filter: .equal("title", "open"), attributes: ["title", "entryUUID"])
    }
}

@Suite(.timeLimit(.minutes(2)))
struct ContentSyncTests {
    @Test func `after the present state each change is told: add, modify, rename, leaving the filter, delete`()
        async throws
    {
        try await withDirectory { sandbox, connection in
            try await connection.add(.test("one"))
            try await connection.add(.test("shut", title: "shut"))
            let before = try #require(try await connection.entry(at: .test("one"), attributes: ["entryUUID"]))
            let one = try #require(before.text("entryUUID").flatMap { EntryUUID(text: $0) })
            var follower = Follower(try await sandbox.connect())
            guard case .entry(let first, one, .add) = try await follower.next() else { throw Follower.Ended() }
            #expect(first.dn == .test("one"))
            #expect(first["title"] == ["open"])
            #expect(try await follower.next() == .refreshDone)

            try await connection.add(.test("two"))
            guard case .entry(let added, let two, .add) = try await follower.next() else { throw Follower.Ended() }
            #expect(added.dn == .test("two"))
            try await connection.modify(.test("one"), [.add("description", "changed")])
            guard case .entry(let changed, one, .modify) = try await follower.next() else { throw Follower.Ended() }
            #expect(changed.dn == .test("one"))
            try await connection.rename(.test("one"), to: RDN("cn", "new"))
            guard case .entry(let renamed, one, .modify) = try await follower.next() else { throw Follower.Ended() }
            #expect(renamed.dn == .test("new"))
            try await connection.modify(.test("new"), [.replace("title", "shut")])
            #expect(try await follower.next() == .deleted(one))
            try await connection.modify(.test("shut"), [.replace("title", "open")])
            guard case .entry(let entered, _, _) = try await follower.next() else { throw Follower.Ended() }
            #expect(entered.dn == .test("shut"))
            try await connection.delete(.test("two"))
            #expect(try await follower.next() == .deleted(two))
        }
    }
}
