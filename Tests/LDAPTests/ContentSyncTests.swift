import Sandbox
import Glibc
import TestSupport
import Testing

@testable import LDAP

/// Follows the events of one synchronization in the order in which they come.
struct Follower {
    var iterator: ContentSync.Iterator

    init(_ connection: LDAPConnection, _ request: ContentSyncRequest = .open) {
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
    /// The entries with the title `open` below `ou=tests`.
    static var open: ContentSyncRequest {
        ContentSyncRequest(base: .tests, filter: .equal("title", "open"), attributes: ["title", "entryUUID"])
    }
}

extension [SyncEvent] {
    var entries: [(DN, EntryUUID)] {
        compactMap { event in
            guard case .entry(let entry, let uuid, _) = event else { return nil }
            return (entry.dn, uuid)
        }
    }

    var lastCookie: [UInt8]? {
        guard case .cookie(let cookie)? = last else { return nil }
        return cookie
    }

    /// Either what is gone is named, or all that is there and this is not among it.
    func tellsGone(_ uuid: EntryUUID) -> Bool {
        let isNamed = contains { event in
            switch event {
            case .deleted(uuid): true
            case .identifiers(let uuids, let deleted): deleted && uuids.contains(uuid)
            default: false
            }
        }
        let isPresent = contains { event in
            switch event {
            case .present(uuid): true
            case .identifiers(let uuids, let deleted): !deleted && uuids.contains(uuid)
            default: false
            }
        }
        return isNamed || (contains(.phaseDone(deletes: false)) && !isPresent)
    }
}

@Suite(.serialized, .timeLimit(.minutes(10)))
struct ContentSyncTests {
    @Test func `after the current state each change is an event: add, modify, rename, leaving the filter, delete`()
        async throws
    {
        try await withSandbox { sandbox, connection in
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

    @Test func `a refresh without persisting ends, and a later one continues from its cookie`() async throws {
        try await withSandbox { sandbox, connection async throws in
            try await connection.add(.test("one"))
            try await connection.add(.test("two"))
            let first = try await refresh(sandbox, cookie: nil)
            #expect(first.contains(.refreshDone))
            #expect(Set(first.entries.map(\.0)) == [.test("one"), .test("two")])
            let cookie = try #require(first.lastCookie)
            let one = try #require(first.entries.first { $0.0 == .test("one") }).1
            try await connection.delete(.test("one"))
            try await connection.add(.test("three"))
            let second = try await refresh(sandbox, cookie: cookie)
            #expect(second.entries.map(\.0) == [.test("three")])
            #expect(second.tellsGone(one))
        }
    }

    private func refresh(_ sandbox: LDAPSandbox, cookie: [UInt8]?) async throws -> [SyncEvent] {
        var request = ContentSyncRequest.open
        request.mode = .refreshOnly
        request.cookie = cookie
        var events: [SyncEvent] = []
        for try await event in try await sandbox.connect().contentSync(request) { events.append(event) }
        return events
    }

    @Test func `a server without the overlay is unavailableCriticalExtension with the hint`() async throws {
        var options = SandboxOptions.testing
        options.contentSync = false
        try await withSandbox(options) { sandbox, _ in
            var follower = Follower(try await sandbox.connect())
            let error = await failure { () async throws(LDAPError) in try await follower.iterator.next() }
            #expect(error?.code == .unavailableCriticalExtension)
            #expect(error?.hint?.contains("syncprov") == true)
        }
    }

    @Test func `cancelling or leaving the loop closes the connection`() async throws {
        try await withSandbox { sandbox, _ in
            let cancelled = try await sandbox.connect()
            let task = Task { () async -> LDAPError? in
                var follower = Follower(cancelled)
                return await failure { () async throws(LDAPError) in
                    while try await follower.iterator.next() != nil {}
                }
            }
            try await eventually { try openSockets(of: sandbox) == 2 }
            task.cancel()
            #expect(await task.value?.code == .userCancelled)
            try await eventually { cancelled.isClosed }
            let left = try await sandbox.connect()
            for try await event in left.contentSync(.open) { if event == .refreshDone { break } }
            try await eventually { left.isClosed }
            try await eventually { try openSockets(of: sandbox) == 1 }
        }
    }

    @Test func `a consumer that lags slows the server down, and loses nothing`() async throws {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        try await withSandbox(options) { sandbox, _ in
            let count = 20_000
            try await fill(sandbox, count: count)
            guard case .tcp(_, let port, _) = try ServerAddress(parsing: try #require(sandbox.loopbackURI)).endpoint
            else { return }
            let proxy = try CuttingProxy(to: port)
            defer { proxy.stop() }
            let connection = try await LDAPConnection.open(
                ServerAddress(.tcp(host: "127.0.0.1", port: proxy.port, tls: false)), options: try sandbox.options())
            var request = ContentSyncRequest.open
            request.attributes = ["description", "title"]
            var iterator = connection.contentSync(request).makeAsyncIterator()
            var names: Set<DN> = []
            func take() async throws -> Bool {
                switch try await iterator.next() {
                case .entry(let entry, _, .add): names.insert(entry.dn)
                case .refreshDone, nil: return false
                default: break
                }
                return true
            }
            #expect(try await take())
            // Nothing more is taken.
            try await eventually("the loop goes on although there is something to read") {
                let before = try unread(from: proxy.port)
                for _ in 0..<3 { await timerFires() }
                return try before > 0 && unread(from: proxy.port) == before
            }
            // The whole is 20,000 times 2,000 bytes at least; what the kernel holds on the way is a part of it.
            #expect(proxy.count < count * 2000 * 2 / 3)
            while try await take() {}
            #expect(names.count == count)
            #expect(proxy.count > count * 2000)
            connection.close()
        }
    }

    private func fill(_ sandbox: LDAPSandbox, count: Int) async throws {
        let filler = AttributeValue(bytes: [UInt8](repeating: UInt8(ascii: "x"), count: 2000))
        let connection = try await sandbox.connect()
        for start in stride(from: 0, to: count, by: 500) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in start..<min(start + 500, count) {
                    var entry = Entry.test("n\(number)")
                    entry["description"] = [filler]
                    group.addTask { [entry] in try await connection.add(entry) }
                }
                try await group.waitForAll()
            }
        }
        connection.close()
    }

    @Test func `a connection cut after any number of bytes is an error, and what came before is a prefix`() async throws
    {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        try await withSandbox(options) { sandbox, writer in
            for number in 0..<20 { try await writer.add(.test("n\(number)")) }
            guard case .tcp(_, let port, _) = try ServerAddress(parsing: try #require(sandbox.loopbackURI)).endpoint
            else { return }
            func events(cuttingAfter limit: Int) async throws -> (
                events: [SyncEvent], error: LDAPError?, bytes: Int
            ) {
                let proxy = try CuttingProxy(to: port, limit: limit)
                defer { proxy.stop() }
                var events: [SyncEvent] = []
                do {
                    let connection = try await LDAPConnection.open(
                        ServerAddress(.tcp(host: "127.0.0.1", port: proxy.port, tls: false)),
                        options: try sandbox.options())
                    for try await event in connection.contentSync(.open) {
                        events.append(event)
                        if limit == .max, event == .refreshDone { break }
                    }
                    return (events, nil, proxy.count)
                } catch let error as LDAPError {
                    return (events, error, proxy.count)
                }
            }
            let whole = try await events(cuttingAfter: .max)
            #expect(whole.error == nil)
            for limit in stride(from: 0, to: whole.bytes, by: max(1, whole.bytes / 250)) {
                let part = try await events(cuttingAfter: limit)
                #expect(part.error?.isConnectionLost == true, "after \(limit) bytes: \(String(describing: part.error))")
                #expect(part.events.count <= whole.events.count)
                #expect(part.events[...] == whole.events.prefix(part.events.count))
            }
        }
    }
}
