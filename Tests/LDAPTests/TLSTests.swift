import LDAP
import Sandbox
import Glibc
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct TLSTests {
    /// Each way of TLS to one server.
    private func withServers(_ body: (LDAPSandbox, [(ServerAddress, startTLS: Bool)]) async throws -> Void)
        async throws
    {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        options.loopbackTLSPort = 0
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let immediate = try ServerAddress(parsing: try #require(sandbox.loopbackTLSURI))
            let upgraded = try ServerAddress(parsing: try #require(sandbox.loopbackURI))
            try await body(sandbox, [(immediate, false), (upgraded, true)])
        }
    }

    private func open(
        _ server: ServerAddress, startTLS: Bool, caFile: String?, _ sandbox: LDAPSandbox,
        _ requirement: TLSOptions.Requirement = .demand
    ) async throws -> LDAPConnection {
        var options = try sandbox.options()
        options.tls = TLSOptions(startTLS: startTLS, caFile: caFile, requirement: requirement)
        return try await LDAPConnection.open(server, options: options)
    }

    private func refusal(
        _ server: ServerAddress, startTLS: Bool, caFile: String?, _ sandbox: LDAPSandbox
    ) async -> LDAPError? {
        do {
            _ = try await open(server, startTLS: startTLS, caFile: caFile, sandbox)
            Issue.record("\(server) was taken for the right server")
            return nil
        } catch {
            return error as? LDAPError
        }
    }

    @Test func `a server whose authority is named is trusted, and all operations go over TLS`() async throws {
        try await withServers { sandbox, servers in
            for (server, startTLS) in servers {
                let connection = try await open(server, startTLS: startTLS, caFile: sandbox.caFile.string, sandbox)
                #expect(try await connection.whoAmI().lowercased() == "dn:" + sandbox.adminDN.lowercased())
                let features = try await connection.features()
                #expect(features.contains(.startTLS) || !startTLS)
                // More than one TLS record each way.
                var entry = Entry.test("big")
                entry.dn = try DN(parsing: SandboxTree.suffix).appending("cn", "big")
                entry["jpegPhoto"] = [AttributeValue(bytes: [UInt8](repeating: 7, count: 200_000))]
                try await connection.add(entry)
                #expect(try await connection.entry(at: entry.dn)?["jpegPhoto"] == entry["jpegPhoto"])
                try await connection.delete(entry.dn)
                connection.close()
            }
        }
    }

    @Test func `a synchronization goes over TLS`() async throws {
        try await withServers { sandbox, servers in
            for (server, startTLS) in servers {
                let writer = try await sandbox.connect()
                let connection = try await open(server, startTLS: startTLS, caFile: sandbox.caFile.string, sandbox)
                let base = try DN(parsing: SandboxTree.suffix)
                let follower = Follower(connection, SearchRequest(base: base, filter: .equal("title", "open")))
                #expect(try await follower.refresh().isEmpty)
                var entry = Entry.test("one")
                entry.dn = base.appending("cn", "one")
                try await writer.add(entry)
                guard case .entry(let told, _) = try await follower.next() else { throw Follower.Ended() }
                #expect(told.dn == entry.dn)
                try await writer.delete(entry.dn)
            }
        }
    }

    @Test func `F14 - a server whose authority is not named is refused with the hint`() async throws {
        try await withServers { sandbox, servers in
            for (server, startTLS) in servers {
                let error = try #require(await refusal(server, startTLS: startTLS, caFile: nil, sandbox))
                #expect(error.code == .connectError)
                #expect(error.hint == "name the certificate of the server's authority in TLS_CA_FILE", "\(error)")
                let missing = try #require(
                    await refusal(server, startTLS: startTLS, caFile: "/nonexistent/ca.pem", sandbox))
                #expect(missing.diagnostic == "the CA file /nonexistent/ca.pem: No such file or directory")
                let odd = try #require(await refusal(server, startTLS: startTLS, caFile: "/etc/passwd", sandbox))
                #expect(odd.operation.contains("TLS"), "\(odd)")
            }
        }
    }

    @Test func `the certificate is ignored only if the options say so`() async throws {
        try await withServers { sandbox, servers in
            for (server, startTLS) in servers {
                for requirement in [TLSOptions.Requirement.never, .allow] {
                    let connection = try await open(server, startTLS: startTLS, caFile: nil, sandbox, requirement)
                    #expect(try await connection.whoAmI() != "")
                }
            }
        }
    }

    @Test func `a trusted certificate for another host is refused`() async throws {
        try await withServers { sandbox, servers in
            for (server, startTLS) in servers {
                guard case .tcp(_, let port, let tls) = server.endpoint else { continue }
                let proxy = try CuttingProxy(to: port, host: 2)
                defer { proxy.stop() }
                let stranger = ServerAddress(.tcp(host: "127.0.0.2", port: proxy.port, tls: tls))
                let error = await refusal(stranger, startTLS: startTLS, caFile: sandbox.caFile.string, sandbox)
                #expect(error?.code == .connectError)
                #expect(error?.hint?.contains("the server's name in the certificate") == true, "\(error)")
            }
        }
    }

    @Test func `a server that does not offer StartTLS is refused, and the password is not sent`() async throws {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let server = try ServerAddress(parsing: try #require(sandbox.loopbackURI))
            let error = try #require(await refusal(server, startTLS: true, caFile: nil, sandbox))
            #expect(error.operation == "StartTLS")
        }
    }

    @Test func `neither ldap.conf nor the environment weakens the check`() async throws {
        try await withServers { sandbox, servers in
            let server = try #require(servers.first).0
            guard case .tcp(_, let port, _) = server.endpoint else { return }
            await #expect(processExitsWith: .success) { [port = port as UInt16] in
                for (name, value) in [
                    ("LDAPTLS_REQCERT", "never"), ("LDAPTLS_REQSAN", "never"), ("LDAPREFERRALS", "on"),
                ] {
                    setenv(name, value, 1)
                }
                let server = ServerAddress(.tcp(host: "127.0.0.1", port: port, tls: true))
                let error = await failure { () async throws(LDAPError) in
                    try await LDAPConnection.open(server)
                }
                #expect(error?.code == .connectError)
            }
        }
    }

    @Test func `SASL EXTERNAL over TLS is the client certificate`() async throws {
        var options = SandboxOptions.testing
        options.loopbackTLSPort = 0
        options.globalLines = ["TLSVerifyClient demand"]
        try await LDAPSandbox.temporary(options: options) { sandbox in
            let server = try ServerAddress(parsing: try #require(sandbox.loopbackTLSURI))
            let certificate = sandbox.caFile.removingLastComponent().appending("server.crt").string
            var options = ConnectionOptions(
                tls: TLSOptions(
                    caFile: sandbox.caFile.string, certificateFile: certificate,
                    keyFile: sandbox.caFile.removingLastComponent().appending("server.key").string),
                credentials: .external)
            let connection = try await LDAPConnection.open(server, options: options)
            #expect(try await connection.whoAmI().hasPrefix("dn:cn="))
            options.tls.certificateFile = nil
            options.tls.keyFile = nil
            let error = await failure { () async throws(LDAPError) in
                try await LDAPConnection.open(server, options: options)
            }
            #expect(error != nil)
        }
    }
}
