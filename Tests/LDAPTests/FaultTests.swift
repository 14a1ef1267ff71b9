import Sandbox
import Glibc
import TestSupport
import Testing

@testable import LDAP

@Suite(.serialized, .timeLimit(.minutes(10)))
struct FaultTests {
    @Test(arguments: ["ldap", "ldaps", "StartTLS"])
    func `a server that accepts and says nothing is a timeout, and the stalled thread returns`(way: String)
        async throws
    {
        let listener = try Listener()
        let server = ServerAddress(.tcp(host: "127.0.0.1", port: listener.port, tls: way == "ldaps"))
        let options = ConnectionOptions(
            tls: TLSOptions(startTLS: way == "StartTLS"),
            credentials: .simple(bindDN: .tests, password: Secret("secret")), connectTimeout: .seconds(2))
        let error = await failure { () async throws(LDAPError) in
            try await LDAPConnection.open(server, options: options)
        }
        #expect(error?.code == .timeout)
        let peer = listener.accept()
        defer { close(peer) }
        // The request, then the end: the thread has closed its socket.
        await withCheckedContinuation { continuation in
            startThread {
                var buffer = [UInt8](repeating: 0, count: 4096)
                while read(peer, &buffer, buffer.count) > 0 {}
                continuation.resume()
            }
        }
    }

    @Test func `a task that is cancelled while it connects does not wait any more`() async throws {
        let listener = try Listener()
        let server = ServerAddress(.tcp(host: "127.0.0.1", port: listener.port, tls: true))
        let opening = Task { () async -> LDAPError? in
            await failure { () async throws(LDAPError) in
                try await LDAPConnection.open(server, options: ConnectionOptions(connectTimeout: .seconds(3600)))
            }
        }
        let peer = listener.accept()
        defer { close(peer) }
        opening.cancel()
        #expect(await opening.value?.code == .userCancelled)
    }

    @Test func `an operation of a server that hangs ends at its time limit, and the connection stays usable`()
        async throws
    {
        try await withSandbox { sandbox, _ in
            let connection = try await sandbox.connect(operationTimeout: .seconds(2))
            try await freeze(sandbox)
            let error = await failure { () async throws(LDAPError) in try await connection.add(.test("late")) }
            sandbox.resume()
            #expect(error?.code == .timeout)
            #expect(error?.isConnectionLost == false)
            // An answer to the abandoned operation is dropped.
            try await answers(connection)
            #expect(!connection.isClosed)
        }
    }

    /// A server that goes on has been working off what it was asked before.
    private func answers(_ connection: LDAPConnection) async throws {
        try await eventually("the server answers again") {
            do throws(LDAPError) { return try await connection.entry(at: .tests) != nil } catch {
                guard error.code == .timeout else { throw error }
                return false
            }
        }
    }

    @Test func `a cancelled operation ends at once, and the others continue`() async throws {
        try await withSandbox { sandbox, connection async throws in
            try await freeze(sandbox)
            let other = Task { try await connection.entry(at: .tests) }
            let task = Task { () async -> LDAPError? in
                await failure { () async throws(LDAPError) in try await connection.whoAmI() }
            }
            task.cancel()
            #expect(await task.value?.code == .userCancelled)
            sandbox.resume()
            #expect(try await other.value?.dn == .tests)
            let before = Task { () async -> LDAPError? in
                while !Task.isCancelled { await Task.yield() }
                return await failure { () async throws(LDAPError) in try await connection.whoAmI() }
            }
            before.cancel()
            #expect(await before.value?.code == .userCancelled)
            #expect(try await connection.whoAmI() != "")
        }
    }

    @Test func `a server that dies ends every pending operation and the synchronization with a lost connection`()
        async throws
    {
        try await withSandbox { sandbox, connection in
            let follower = Follower(try await sandbox.connect())
            #expect(try await follower.refresh().isEmpty)
            try await freeze(sandbox)
            let errors = await withTaskGroup(of: LDAPError?.self) { group in
                for number in 0..<50 {
                    group.addTask {
                        await failure { () async throws(LDAPError) in try await connection.add(.test("n\(number)"))
                        }
                    }
                }
                group.addTask {
                    do { try await sandbox.kill() } catch { Issue.record(error) }
                    return nil
                }
                return await group.reduce(into: [LDAPError]()) { if let error = $1 { $0.append(error) } }
            }
            #expect(errors.count == 50)
            for error in errors {
                #expect(error.isConnectionLost)
                #expect(error.operation.hasPrefix("add cn=n"))
            }
            let ended = await failure { () async throws(LDAPError) in
                while try await follower.events.next() != nil {}
            }
            #expect(ended?.isConnectionLost == true)
            try await eventually { connection.isClosed }
            let later = await failure { () async throws(LDAPError) in try await connection.whoAmI() }
            #expect(later?.isConnectionLost == true)
        }
    }

    @Test func `an idle connection that the server closes is noticed without being used`() async throws {
        try await withSandbox { sandbox, _ in
            let connection = try await sandbox.connect()
            #expect(!connection.isClosed)
            try await sandbox.kill()
            try await eventually { connection.isClosed }
        }
    }

    @Test func `an idle connection has no wake-ups`() async throws {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        try await withSandbox(options) { sandbox, _ in
            let (uri, dn) = (try #require(sandbox.loopbackURI), sandbox.adminDN)
            // In a process of its own, where nothing else wakes the event loop.
            await #expect(processExitsWith: .success) {
                [uri = uri as String, dn = dn as String, password = sandbox.adminPassword as String] in
                let server = try ServerAddress(parsing: uri)
                guard case .tcp(_, let port, _) = server.endpoint else { return }
                let options = ConnectionOptions(
                    credentials: .simple(bindDN: try DN(parsing: dn), password: Secret(password)))
                let connection = try await LDAPConnection.open(server, options: options)
                let follower = try await LDAPConnection.open(server, options: options)
                let events = Follower(follower)
                #expect(try await events.refresh().isEmpty)
                _ = try await connection.whoAmI()
                // Another connection uses the server meanwhile, which gives both hundreds of occasions to wake up.
                let other = Listener.connect(port: port)
                func whoAmI() -> Bool {
                    let identifier = BER.element(BER.context(0), ServerFeature.whoAmI.rawValue)
                    let request = BER.element(
                        BER.sequence, BER.number(BER.integer, 1) + BER.element(0x77, identifier))
                    var answer = [UInt8](repeating: 0, count: 256)
                    return write(other, request, request.count) == request.count && read(other, &answer, 256) > 0
                }
                try await eventually("the loop has nothing left to do") {
                    let before = try sleepsOfLoop()
                    for _ in 0..<300 { #expect(whoAmI()) }
                    return try sleepsOfLoop() == before
                }
                #expect(!connection.isClosed && !follower.isClosed)
            }
        }
    }

    @Test func `a server that does not read makes operations time out, sent or not, and is used again when it reads`()
        async throws
    {
        try await withSandbox { sandbox, writer in
            try await writer.add(.test("one"))
            let connection = try await sandbox.connect(operationTimeout: .milliseconds(500))
            try await freeze(sandbox)
            // More than all buffers between us and the server hold.
            let filler = AttributeValue(bytes: [UInt8](repeating: 7, count: 8000))
            let codes = await withTaskGroup(of: ResultCode?.self) { group in
                for _ in 0..<200 {
                    group.addTask {
                        await failure { () async throws(LDAPError) in
                            try await connection.modify(.test("one"), [.replace("jpegPhoto", filler)])
                        }?.code
                    }
                }
                return await group.reduce(into: [ResultCode?]()) { $0.append($1) }
            }
            sandbox.resume()
            #expect(codes == Array(repeating: .timeout, count: 200))
            try await answers(connection)
        }
    }

    @Test func `a request that the server stops reading in the middle is a timeout, and is sent to its end later`()
        async throws
    {
        try await withSandbox { sandbox, writer in
            try await writer.add(.test("one"))
            let connection = try await sandbox.connect(operationTimeout: .seconds(2))
            try await freeze(sandbox)
            let filler = AttributeValue(bytes: [UInt8](repeating: 7, count: 3_000_000))
            let error = await failure { () async throws(LDAPError) in
                try await connection.modify(.test("one"), [.replace("jpegPhoto", filler)])
            }
            sandbox.resume()
            #expect(error?.code == .timeout)
            #expect(error?.isConnectionLost == false)
            try await answers(connection)
        }
    }

    @Test func `a referral is an error that names the other server, for a write and for a part of a search`()
        async throws
    {
        try await withSandbox { _, connection in
            let other = "ldap://other.example.org/ou=elsewhere,dc=example,dc=org"
            try await connection.add(
                Entry(
                    dn: .test("elsewhere"),
                    attributes: [
                        Attribute("objectClass", ["referral", "extensibleObject"]), Attribute("cn", ["elsewhere"]),
                        Attribute("ref", [AttributeValue(other)]),
                    ]))
            let write = await failure { () async throws(LDAPError) in
                try await connection.modify(DN.test("elsewhere").appending("cn", "one"), [.replace("title", "x")])
            }
            #expect(write?.code == .referral)
            #expect(write?.referrals.first?.hasPrefix("ldap://other.example.org/") == true)
            #expect(write?.hint?.contains("put ldap://other.example.org first") == true)
            let search = connection.search(SearchRequest(base: .tests))
            let part = await failure { () async throws(LDAPError) in try await search.all() }
            #expect(part?.code == .referral)
            #expect(part?.referrals.first?.hasPrefix("ldap://other.example.org/") == true)
        }
    }
}
