import Sandbox
import Glibc
import TestSupport
import Testing

@testable import LDAP

/// Follows the events of one synchronization in the order in which they come.
struct Follower {
    let events: ContentSync

    init(_ connection: LDAPConnection, _ search: SearchRequest = .open) {
        events = connection.contentSync(search)
    }

    /// The next event that is about an entry or the end of the refresh.
    func next() async throws -> SyncEvent {
        while let event = try await events.next() {
            if event != .unchanged { return event }
        }
        throw Ended()
    }

    /// The DNs of all entries until the refresh is done.
    func refresh() async throws -> [DN] {
        var names: [DN] = []
        while true {
            switch try await next() {
            case .entry(let entry, _): names.append(entry.dn)
            case .refreshDone: return names
            case let event: Issue.record("a refresh without a cookie has no \(event)")
            }
        }
    }

    struct Ended: Error {}
}

extension SearchRequest {
    /// The entries with the title `open` below `ou=tests`.
    static let open = of(["title", "entryUUID"])

    static func of(_ attributes: [AttributeName]) -> SearchRequest {
        SearchRequest(base: .tests, filter: .equal("title", "open"), attributes: attributes)
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
            let follower = Follower(try await sandbox.connect())
            guard case .entry(let first, one) = try await follower.next() else { throw Follower.Ended() }
            #expect(first.dn == .test("one"))
            #expect(first["title"] == ["open"])
            #expect(try await follower.next() == .refreshDone)

            try await connection.add(.test("two"))
            guard case .entry(let added, let two) = try await follower.next() else { throw Follower.Ended() }
            #expect(added.dn == .test("two"))
            try await connection.modify(.test("one"), [.add("description", "changed")])
            guard case .entry(let changed, one) = try await follower.next() else { throw Follower.Ended() }
            #expect(changed.dn == .test("one"))
            try await connection.rename(.test("one"), to: RDN("cn", "new"))
            guard case .entry(let renamed, one) = try await follower.next() else { throw Follower.Ended() }
            #expect(renamed.dn == .test("new"))
            try await connection.modify(.test("new"), [.replace("title", "shut")])
            #expect(try await follower.next() == .deleted([one]))
            try await connection.modify(.test("shut"), [.replace("title", "open")])
            guard case .entry(let entered, _) = try await follower.next() else { throw Follower.Ended() }
            #expect(entered.dn == .test("shut"))
            try await connection.delete(.test("two"))
            #expect(try await follower.next() == .deleted([two]))
        }
    }

    @Test func `a server without the overlay is unavailableCriticalExtension with the hint`() async throws {
        var options = SandboxOptions.testing
        options.contentSync = false
        try await withSandbox(options) { sandbox, _ in
            let follower = Follower(try await sandbox.connect())
            let error = await failure { () async throws(LDAPError) in try await follower.events.next() }
            #expect(error?.code == .unavailableCriticalExtension)
            #expect(error?.hint?.contains("syncprov") == true)
        }
    }

    @Test func `cancelling or leaving the loop closes the connection`() async throws {
        try await withSandbox { sandbox, _ in
            let cancelled = try await sandbox.connect()
            let task = Task { () async -> LDAPError? in
                let follower = Follower(cancelled)
                return await failure { () async throws(LDAPError) in
                    while try await follower.events.next() != nil {}
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
            let events = connection.contentSync(.of(["description", "title"]))
            var names: Set<DN> = []
            func take() async throws -> Bool {
                switch try await events.next() {
                case .entry(let entry, _): names.insert(entry.dn)
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
