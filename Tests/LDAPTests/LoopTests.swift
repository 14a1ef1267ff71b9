import LDAP
import Sandbox
import Dispatch
import EventLoop
import Glibc
import Synchronization
import TestSupport
import Testing

/// That a connection never holds the event loop up, and that none of many operations is lost. By the order of what happens: where the loop waited for
/// the server, these tests would not end.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct LoopTests {
    private final class Counter: Sendable { let count = Atomic(0) }

    @Test(arguments: ["ldap", "ldaps", "StartTLS"])
    func `the loop continues after half of a message or of a TLS record, and all answers are complete`(way: String)
        async throws
    {
        var options = SandboxOptions.testing
        (options.loopbackPort, options.loopbackTLSPort) = (0, 0)
        try await withSandbox(options) { sandbox, writer in
            let uri = try #require(way == "ldaps" ? sandbox.loopbackTLSURI : sandbox.loopbackURI)
            guard case .tcp(_, let server, _) = try ServerAddress(parsing: uri).endpoint else { return }
            let port = Atomic<UInt16>(0)
            let turns = Atomic(0)
            let proxy = try CuttingProxy(to: server) {
                // When the client has read the first half, a timer has to fire before it gets the rest.
                while (try? unread(from: port.load(ordering: .relaxed))) ?? 0 > 0 { usleep(100) }
                let fired = DispatchSemaphore(value: 0)
                EventLoop.shared.post { EventLoop.shared.call(at: .now) { fired.signal() } }
                fired.wait()
                turns.add(1, ordering: .relaxed)
            }
            defer { proxy.stop() }
            port.store(proxy.port, ordering: .relaxed)
            var options = try sandbox.options()
            options.tls = TLSOptions(startTLS: way == "StartTLS", caFile: sandbox.caFile.string)
            let connection = try await LDAPConnection.open(
                ServerAddress(.tcp(host: "127.0.0.1", port: proxy.port, tls: way == "ldaps")), options: options)
            // More than one TLS record, and more than the library reads at once.
            var large = Entry.test("large")
            large["jpegPhoto"] = [AttributeValue(bytes: [UInt8](repeating: 7, count: 200_000))]
            try await writer.add(large)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<100 {
                    group.addTask { [large] in
                        try await connection.add(.test("n\(number)"))
                        let title = AttributeValue("t\(number)")
                        let entry = try await connection.modify(
                            .test("n\(number)"), [.replace("title", title)], postRead: ["title"])
                        #expect(entry?["title"] == [title])
                        guard number.isMultiple(of: 25) else { return }
                        #expect(try await connection.entry(at: large.dn)?["jpegPhoto"] == large["jpegPhoto"])
                    }
                }
                try await group.waitForAll()
            }
            let found = try await connection.search(SearchRequest(base: .tests, scope: .oneLevel, pageSize: 30)).all()
            #expect(found.count == 101)
            #expect(turns.load(ordering: .relaxed) > 100)
            connection.close()
        }
    }

    @Test func `the loop continues while hundreds of requests wait for a stopped server, and none is lost`()
        async throws
    {
        try await withSandbox { sandbox, connection in
            for number in 0..<10 { try await connection.add(.test("n\(number)")) }
            try await freeze(sandbox)
            let answered = Counter()
            try await withThrowingTaskGroup(of: Void.self) { group in
                var cancelled: [Task<LDAPError?, Never>] = []
                for number in 0..<600 {
                    let changes = [Modification.add("description", AttributeValue("v\(number)"))]
                    guard number.isMultiple(of: 3) else {
                        group.addTask {
                            try await connection.modify(.test("n\(number % 10)"), changes)
                            answered.count.add(1, ordering: .relaxed)
                        }
                        continue
                    }
                    cancelled.append(
                        Task {
                            await failure { () async throws(LDAPError) in
                                try await connection.modify(.test("missing"), changes)
                            }
                        })
                }
                for _ in 0..<100 { await timerFires() }
                for task in cancelled { task.cancel() }
                for task in cancelled { #expect(await task.value?.code == .userCancelled) }
                for _ in 0..<100 { await timerFires() }
                #expect(answered.count.load(ordering: .relaxed) == 0)
                sandbox.resume()
                try await group.waitForAll()
            }
            var values: Set<AttributeValue> = []
            for number in 0..<10 {
                values.formUnion(try await connection.entry(at: .test("n\(number)"))?["description"] ?? [])
            }
            #expect(values.count == 400)
        }
    }

    @Test(arguments: ["ldapi", "ldaps"])
    func `a request that is abandoned while the server does not read does not affect the requests before and after it`(
        way: String
    )
        async throws
    {
        var options = SandboxOptions.testing
        options.loopbackTLSPort = 0
        try await withSandbox(options) { sandbox, writer in
            for number in 0..<10 { try await writer.add(.test("n\(number)")) }
            var options = try sandbox.options()
            options.tls.caFile = sandbox.caFile.string
            let uri = try #require(way == "ldaps" ? sandbox.loopbackTLSURI : sandbox.uri)
            let connection = try await LDAPConnection.open(ServerAddress(parsing: uri), options: options)
            // The server reads what the sockets have taken, and answers none of it before it has more.
            try await freeze(sandbox)
            try await withThrowingTaskGroup(of: Void.self) { group in
                let small = Task {
                    await failure { () async throws(LDAPError) in
                        try await connection.modify(.test("missing"), [.replace("title", "x")])
                    }
                }
                await timerFires()
                // More than the buffers between us and the server hold.
                for number in 0..<10 {
                    let filler = AttributeValue(bytes: [UInt8](repeating: UInt8(number), count: 1_000_000))
                    group.addTask { try await connection.modify(.test("n\(number)"), [.replace("jpegPhoto", filler)]) }
                }
                for _ in 0..<100 { await timerFires() }
                small.cancel()
                #expect(await small.value?.code == .userCancelled)
                for _ in 0..<100 { await timerFires() }
                sandbox.resume()
                try await group.waitForAll()
            }
            for number in 0..<10 {
                let photo = try await connection.entry(at: .test("n\(number)"))?["jpegPhoto"].first
                #expect(photo?.bytes.count == 1_000_000 && photo?.bytes.allSatisfy { $0 == UInt8(number) } == true)
            }
            connection.close()
        }
    }

    @Test func `each of thousands of operations over one connection gets its own answer, or is cancelled`() async throws
    {
        try await withSandbox { _, connection in
            for number in 0..<50 { try await connection.add(.test("n\(number)")) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<3000 {
                    group.addTask {
                        let name = "n\(number % 50)"
                        let task = Task { try await connection.entry(at: .test(name)) }
                        if number.isMultiple(of: 7) {
                            if number.isMultiple(of: 2) { await timerFires() }
                            task.cancel()
                        }
                        do {
                            let entry = try await task.value
                            #expect(entry?["cn"] == [AttributeValue(name)])
                        } catch let error as LDAPError where error.code == .userCancelled {
                            #expect(task.isCancelled)
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(!connection.isClosed)
        }
    }

    @Test func `servers that hang keep another connection from opening no longer than their time limit`() async throws {
        try await withSandbox { sandbox, _ in
            let listener = try Listener()
            let silent = ServerAddress(.tcp(host: "127.0.0.1", port: listener.port, tls: true))
            // More than there are threads for it.
            let hanging = (0..<20).map { _ in
                Task {
                    await failure { () async throws(LDAPError) in
                        try await LDAPConnection.open(
                            silent, options: ConnectionOptions(connectTimeout: .seconds(1)))
                    }
                }
            }
            await timerFires()
            let connection = try await LDAPConnection.open(
                ServerAddress(parsing: sandbox.uri),
                options: ConnectionOptions(credentials: try sandbox.manager(), connectTimeout: .seconds(300)))
            #expect(try await connection.whoAmI() != "")
            for task in hanging { #expect(await task.value?.code == .timeout) }
        }
    }
}
