import Glibc
import TestSupport
import Testing

@testable import LDAP

/// A fake server for rare answers: it answers the first request with given bytes.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct FakeServerTests {
    @Test(arguments: [
        ResultCode.syncRefreshRequired, .unwillingToPerform, .busy, .unavailable, .other, .insufficientAccessRights,
    ])
    func `a result ends the synchronization with its code`(code: ResultCode) async throws {
        let error = try await error(after: [
            BER.element(
                0x65,
                BER.number(BER.enumerated, Int(code.rawValue)) + BER.element(BER.octets, "")
                    + BER.element(BER.octets, "why"))
        ])
        #expect(error?.code == code)
        #expect(error?.diagnostic == "why")
        #expect(error?.isBusy == (code == .busy || code == .unavailable))
        #expect(error?.isConnectionLost == false)
    }

    @Test func `a success that ends a persistent search, an entry without state and a broken message are errors`()
        async throws
    {
        let success = BER.element(
            0x65, BER.number(BER.enumerated, 0) + BER.element(BER.octets, "") + BER.element(BER.octets, ""))
        #expect(try await error(after: [success])?.isConnectionLost == true)
        let entry = BER.element(0x64, BER.element(BER.octets, "cn=a") + BER.element(BER.sequence, []))
        #expect(try await error(after: [entry])?.code == .decodingError)
        let nameless = BER.element(0x64, BER.element(BER.octets, "not a DN") + BER.element(BER.sequence, []))
        #expect(try await error(after: [nameless])?.code == .decodingError)
        let broken = BER.element(0x64, BER.element(BER.octets, "cn=a") + [0x30, 0x7f, 1])
        #expect(try await error(after: [broken])?.isConnectionLost == true)
        let info = BER.element(
            0x79, BER.element(BER.context(0), SyncDecoder.info) + BER.element(BER.context(1), [1, 2, 3]))
        #expect(try await error(after: [info])?.code == .decodingError)
    }

    @Test func `a notice of disconnection ends the connection with the server's reason, busy or idle`() async throws {
        let notice = BER.element(
            0x78,
            BER.number(BER.enumerated, 52) + BER.element(BER.octets, "") + BER.element(BER.octets, "going down")
                + BER.element(BER.context(10), "1.3.6.1.4.1.1466.20036"))
        let busy = try await error(
            after: [BER.element(BER.sequence, BER.number(BER.integer, 0) + notice)], areMessages: true)
        #expect(busy?.isConnectionLost == true)
        #expect(busy?.code == .unavailable)
        let listener = try Listener()
        let connection = try await LDAPConnection.open(
            ServerAddress(.tcp(host: "127.0.0.1", port: listener.port, tls: false)))
        let peer = listener.accept()
        defer { close(peer) }
        let bytes = BER.element(BER.sequence, BER.number(BER.integer, 0) + notice)
        #expect(write(peer, bytes, bytes.count) == bytes.count)
        try await eventually { connection.isClosed }
        let error = await failure { () async throws(LDAPError) in try await connection.whoAmI() }
        #expect(error?.code == .unavailable)
        #expect(error?.diagnostic == "going down")
        #expect(error?.isConnectionLost == true)
    }

    @Test func `any garbage ends the connection`() async throws {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<200 {
            let garbage = (0..<Int.random(in: 1..<200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            #expect(try await error(after: [garbage], areMessages: true, thenEnds: true)?.isConnectionLost == true)
        }
    }

    @Test func `a message that claims to be enormous is not waited for`() async throws {
        let error = try await error(after: [[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 1]], areMessages: true)
        #expect(error?.isConnectionLost == true)
    }

    @Test func `writing to a server that has gone does not kill the process`() async throws {
        await #expect(processExitsWith: .success) {
            signal(SIGPIPE, SIG_DFL)
            for _ in 0..<100 {
                let listener = try Listener()
                startThread {
                    let peer = listener.accept()
                    var byte: UInt8 = 0
                    _ = read(peer, &byte, 1)
                    close(peer)
                }
                let connection = try await LDAPConnection.open(
                    ServerAddress(.tcp(host: "127.0.0.1", port: listener.port, tls: false)))
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<20 {
                        group.addTask {
                            let error = await failure { () async throws(LDAPError) in try await connection.whoAmI()
                            }
                            #expect(error?.isConnectionLost == true)
                        }
                    }
                }
            }
        }
    }

    /// The error of a synchronization with a server that answers the request and then says nothing.
    /// - Parameters:
    ///   - answers: protocol operations, or whole messages.
    ///   - thenEnds: whether the server then closes the connection.
    private func error(
        after answers: [[UInt8]], areMessages: Bool = false, thenEnds: Bool = false
    ) async throws -> LDAPError? {
        let listener = try Listener()
        startThread {
            let peer = listener.accept()
            defer { close(peer) }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = read(peer, &buffer, buffer.count)
            guard count > 0 else { return }
            var reader = BERReader(buffer[..<count])
            do {
                var message = try reader.members(BER.sequence)
                let id = try message.number(BER.integer)
                for answer in answers {
                    let bytes = areMessages ? answer : BER.element(BER.sequence, BER.number(BER.integer, id) + answer)
                    _ = write(peer, bytes, bytes.count)
                }
            } catch { Issue.record(error) }
            guard !thenEnds else { return }
            while read(peer, &buffer, buffer.count) > 0 {}
        }
        let connection = try await LDAPConnection.open(
            ServerAddress(.tcp(host: "127.0.0.1", port: listener.port, tls: false)))
        let follower = Follower(connection)
        return await failure { () async throws(LDAPError) in while try await follower.events.next() != nil {} }
    }
}
