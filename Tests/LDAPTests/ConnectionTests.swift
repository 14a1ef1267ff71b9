import LDAP
import Sandbox
import Foundation
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct ConnectionTests {
    @Test func `a wrong password and an unknown DN are invalidCredentials with the hint`() async throws {
        try await withSandbox { sandbox, _ in
            for dn in [sandbox.adminDN, "cn=nobody,\(SandboxTree.suffix)"] {
                let options = ConnectionOptions(
                    credentials: .simple(bindDN: try DN(parsing: dn), password: Secret("wrong")))
                let server = try ServerAddress(parsing: sandbox.uri)
                let error = await failure { () async throws(LDAPError) in
                    try await LDAPConnection.open(server, options: options)
                }
                #expect(error?.code == .invalidCredentials)
                #expect(error?.operation == "bind \(dn)")
                #expect(error?.description.contains("check the bind DN") == true)
                #expect(error?.description.contains("wrong") == false)
            }
        }
    }

    @Test func `an empty password or DN is refused before anything is sent`() async throws {
        let dn = try DN(parsing: "cn=Manager,dc=example,dc=org")
        // There is no listener: an attempt to connect would be another error.
        let server = try ServerAddress(parsing: "ldapi://%2Fnonexistent")
        for credentials in [
            Credentials.simple(bindDN: dn, password: Secret("")), .simple(bindDN: .root, password: Secret("secret")),
        ] {
            let error = await failure { () async throws(LDAPError) in
                try await LDAPConnection.open(server, options: ConnectionOptions(credentials: credentials))
            }
            #expect(error?.code == .paramError)
            #expect(error?.diagnostic.contains("anonymous") == true)
        }
    }

    @Test func `SASL EXTERNAL over a local socket is the user of this process`() async throws {
        try await withSandbox { sandbox, _ in
            let server = try ServerAddress(parsing: sandbox.uri)
            let connection = try await LDAPConnection.open(
                server, options: ConnectionOptions(credentials: .external))
            #expect(try await connection.whoAmI().contains("cn=peercred,cn=external,cn=auth"))
            let anonymous = try await LDAPConnection.open(server)
            #expect(try await anonymous.whoAmI() == "")
        }
    }

    @Test func `a server that is not there is connectError with what each address answered`() async throws {
        let gone = await failure { () async throws(LDAPError) in
            try await LDAPConnection.open(ServerAddress(.local(path: "/nonexistent/ldapi")))
        }
        #expect(gone?.code == .connectError)
        #expect(gone?.diagnostic == "/nonexistent/ldapi: No such file or directory")
        let unknown = await failure { () async throws(LDAPError) in
            try await LDAPConnection.open(ServerAddress(.tcp(host: "name.invalid", port: 389, tls: false)))
        }
        #expect(unknown?.code == .connectError || unknown?.code == .timeout)
        // tcpmux, which no system has any more; a free port may be another test's a moment later.
        let refused = await failure { () async throws(LDAPError) in
            try await LDAPConnection.open(ServerAddress(.tcp(host: "127.0.0.1", port: 1, tls: false)))
        }
        #expect(refused?.code == .connectError)
        #expect(refused?.diagnostic == "127.0.0.1: Connection refused")
        #expect(refused?.isRetryable == true)
    }

    @Test func `a list of servers stays with the one that worked and says what each answered`() async throws {
        try await withSandbox { sandbox, _ in
            let missing = ServerAddress(.local(path: "/nonexistent/first"))
            let working = try ServerAddress(parsing: sandbox.uri)
            let other = ServerAddress(.local(path: "/nonexistent/third"))
            let list = ServerList([missing, working, other])
            let options = try sandbox.options()
            #expect(list.current == missing)
            #expect(try await list.connect(options: options).server == working)
            #expect(list.current == working)
            let isLeft = list.leaveReplica()
            #expect(isLeft && list.current == missing)
            let isLeftAgain = list.leaveReplica()
            #expect(!isLeftAgain)
            #expect(try await list.connect(options: options).server == working)
            try await sandbox.kill()
            let error = try #require(
                await failure { () async throws(LDAPError) in try await list.connect(options: options) })
            // A server that is on its way out may still take the connection, and then drop it.
            #expect(error.code == .connectError || error.code == .serverDown)
            for server in [working, missing, other] { #expect("\(error)".contains(" at \(server): ")) }
            #expect(list.current == working)
        }
        let empty = await failure { () async throws(LDAPError) in
            try await ServerList([]).connect(options: ConnectionOptions())
        }
        #expect(empty?.code == .paramError)
    }

    @Test func `a replica that is the first of the servers is left for the next one, and tried after it`() async throws
    {
        try await withSandbox { sandbox, _ in
            let options = try sandbox.options()
            let replica = try ServerAddress(parsing: sandbox.uri)
            let missing = ServerAddress(.local(path: "/nonexistent/provider"))
            let list = ServerList([replica, missing])
            #expect(try await list.connect(options: options).server == replica)
            let isLeft = list.leaveReplica()
            #expect(isLeft && list.current == missing)
            // The provider is away, so that at least the watch goes on.
            #expect(try await list.connect(options: options).server == replica)
            let isLeftAgain = list.leaveReplica()
            #expect(isLeftAgain && list.current == missing)
            let alone = ServerList([replica])
            #expect(try await alone.connect(options: options).server == replica)
            let isAloneLeft = alone.leaveReplica()
            #expect(!isAloneLeft)
        }
    }

    @Test func `closing fails what is under way and what comes later, and can be repeated`() async throws {
        try await withSandbox { sandbox, _ in
            let connection = try await sandbox.connect()
            try await freeze(sandbox)
            async let pending = failure { () async throws(LDAPError) in try await connection.entry(at: .tests) }
            async let closing: Void = { connection.close() }()
            _ = await closing
            connection.close()
            sandbox.resume()
            #expect(await pending?.isConnectionLost == true)
            #expect(connection.isClosed)
            let late = await failure { () async throws(LDAPError) in try await connection.whoAmI() }
            #expect(late?.code == .serverDown)
            #expect(late?.operation == "who am I")
        }
    }

    @Test func `fifty connections, some of them refused, leave no thread and no socket behind`() async throws {
        try await withSandbox { sandbox, _ in
            let (uri, dn, password) = (sandbox.uri, sandbox.adminDN, sandbox.adminPassword)
            // In a process of its own, where nothing else opens or closes.
            await #expect(processExitsWith: .success) {
                [uri = uri as String, dn = dn as String, password = password as String] in
                let server = try ServerAddress(parsing: uri)
                let bindDN = try DN(parsing: dn)
                let right = ConnectionOptions(credentials: .simple(bindDN: bindDN, password: Secret(password)))
                let wrong = ConnectionOptions(credentials: .simple(bindDN: bindDN, password: Secret("wrong")))
                func sockets() throws -> Int {
                    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count {
                        // A descriptor may be closed between the two.
                        let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")
                        return target?.hasPrefix("socket:") ?? false
                    }
                }
                func threads() throws -> Int {
                    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count {
                        (try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8)) == "ldap\n"
                    }
                }
                let before = try sockets()
                for number in 0..<50 {
                    let connection = try await LDAPConnection.open(server, options: right)
                    if number.isMultiple(of: 2) { _ = try await connection.whoAmI() }
                    if number.isMultiple(of: 3) { connection.close() }
                    if number.isMultiple(of: 5) {
                        _ = await failure { () async throws(LDAPError) in
                            try await LDAPConnection.open(server, options: wrong)
                        }
                    }
                }
                try await eventually { try threads() == 0 && sockets() == before }
            }
        }
    }

    @Test func `dropping the last reference closes the connection`() async throws {
        try await withSandbox { sandbox, _ in
            var connection: LDAPConnection? = try await sandbox.connect()
            // The server closes that of the probe with which its start was awaited.
            try await eventually { try openSockets(of: sandbox) == 2 }
            #expect(connection != nil)
            connection = nil
            try await eventually { try openSockets(of: sandbox) == 1 }
        }
    }
}
