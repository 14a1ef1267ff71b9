import Sandbox
import TestSupport
import Testing

@testable import LDAP

/// The answers of a server's password policy to a bind.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct PasswordPolicyTests {
    @Test func `a response says when the password expires, how many grace logins are left, and what is wrong`() throws {
        func decoded(_ members: [UInt8]) throws -> PasswordPolicyResponse {
            try PasswordPolicyResponse(encoded: BER.element(BER.sequence, members))
        }
        func warning(_ number: UInt8, _ value: Int) -> [UInt8] {
            BER.element(BER.context(0, constructed: true), BER.number(BER.context(number), value))
        }
        func fault(_ value: Int) -> [UInt8] { BER.number(BER.context(1), value) }
        #expect(try decoded([]) == PasswordPolicyResponse())
        #expect(try decoded(warning(0, 3_600)) == PasswordPolicyResponse(timeBeforeExpiration: .seconds(3_600)))
        #expect(try decoded(warning(1, 2)) == PasswordPolicyResponse(graceLogins: 2))
        #expect(try decoded(fault(1)) == PasswordPolicyResponse(fault: .accountLocked))
        #expect(
            try decoded(warning(1, 0) + fault(2)) == PasswordPolicyResponse(graceLogins: 0, fault: .changeAfterReset))
        // Of changes of passwords, or of a later draft.
        #expect(try decoded(fault(8)) == PasswordPolicyResponse())
    }

    @Test(
        arguments: [
            [], [0x30], [0x30, 0x02, 0xa0, 0x00], [0x30, 0x03, 0x81, 0x01], [0x30, 0x03, 0x04, 0x01, 0x00],
            [0x30, 0x05, 0xa0, 0x03, 0x82, 0x01, 0x00], [0x04, 0x00],
        ] as [[UInt8]])
    func `what cannot be decoded counts as nothing, and the bind does not depend on it`(bytes: [UInt8]) {
        #expect(throws: BERReader.Malformed.self) { try PasswordPolicyResponse(encoded: bytes) }
        let control = Control(Control.passwordPolicy.identifier, value: bytes)
        #expect([control].passwordPolicy == nil)
        #expect([Control.passwordPolicy].passwordPolicy == nil)
    }

    private static let policyDN = "cn=policy,\(DN.tests)"

    /// A server with a second address, and with a policy where it is asked for.
    private func withServer(
        policy: [AttributeName: String]?, _ body: (LDAPSandbox, LDAPConnection) async throws -> Void
    ) async throws {
        var options = SandboxOptions.testing
        options.loopbackPort = 0
        if policy != nil {
            options.globalLines = ["moduleload ppolicy"]
            options.databaseLines = ["overlay ppolicy", "ppolicy_default \"\(Self.policyDN)\"", "ppolicy_use_lockout"]
        }
        try await withSandbox(options) { sandbox, manager in
            if let policy {
                var entry = Entry(dn: try DN(parsing: Self.policyDN))
                entry["objectClass"] = ["organizationalRole", "pwdPolicy"]
                entry["cn"] = ["policy"]
                entry["pwdAttribute"] = ["userPassword"]
                for (name, value) in policy { entry[name] = [AttributeValue(value)] }
                try await manager.add(entry)
            }
            try await body(sandbox, manager)
        }
    }

    private func refusal(_ sandbox: LDAPSandbox, at servers: [ServerAddress]) async throws -> LDAPError {
        let options = ConnectionOptions(
            credentials: .simple(bindDN: try DN(parsing: sandbox.daemonDN), password: Secret("wrong")))
        return try #require(
            await failure { () async throws(LDAPError) in
                try await ServerList(servers).connect(options: options)
            })
    }

    private func servers(_ sandbox: LDAPSandbox) throws -> [ServerAddress] {
        [try ServerAddress(parsing: sandbox.uri), try ServerAddress(parsing: try #require(sandbox.loopbackURI))]
    }

    @Test func `a password that a policy has counted is not tried at the other servers; the error tells of a lock`()
        async throws
    {
        try await withServer(policy: ["pwdLockout": "TRUE", "pwdMaxFailure": "2"]) { sandbox, manager in
            let servers = try servers(sandbox)
            for number in 1...2 {
                let error = try await refusal(sandbox, at: servers)
                #expect(error.code == .invalidCredentials && error.server == "\(servers[0])")
                #expect(error.passwordPolicy == PasswordPolicyResponse())
                #expect(error.hint?.contains("check the bind DN") == true)
                let entry = try await manager.entry(
                    at: DN(parsing: sandbox.daemonDN), attributes: ["pwdFailureTime", "pwdAccountLockedTime"])
                #expect(entry?["pwdFailureTime"].count == number)
                #expect(entry?["pwdAccountLockedTime"].isEmpty == (number == 1))
            }
            let locked = try await refusal(sandbox, at: servers)
            #expect(locked.passwordPolicy?.fault == .accountLocked)
            // Nothing is counted then, and another server may know of no lock.
            for server in servers { #expect(locked.server.contains("\(server)"), "\(locked)") }
            #expect(locked.description.contains("(password policy: the account is locked); unlock the account"))
        }
    }

    @Test
    func `without a policy the next server is asked; a server that refused is left alone while others do not answer`()
        async throws
    {
        try await withServer(policy: nil) { sandbox, _ in
            let servers = try servers(sandbox)
            let error = try await refusal(sandbox, at: servers)
            #expect(error.code == .invalidCredentials && error.passwordPolicy == nil)
            for server in servers { #expect(error.diagnostic.contains(" at \(server): invalidCredentials")) }
            let missing = ServerAddress(.local(path: "/nonexistent/ldapi"))
            let options = ConnectionOptions(
                credentials: .simple(bindDN: try DN(parsing: sandbox.daemonDN), password: Secret("wrong")))
            for order in [[missing, servers[0]], [servers[0], missing]] {
                let list = ServerList(order)
                for count in 1...3 {
                    if count == 2 { try await sandbox.kill() }
                    let error = try #require(
                        await failure { () async throws(LDAPError) in try await list.connect(options: options) })
                    // The dead server would be unreachable; its refusal is still told.
                    #expect(error.isRetryable && "\(error)".contains("invalidCredentials"), "\(error)")
                }
                try await sandbox.restart()
            }
        }
    }

    @Test func `a connection tells what the policy said: grace logins, and a password that must be changed`()
        async throws
    {
        let policy: [AttributeName: String] = ["pwdMustChange": "TRUE", "pwdGraceAuthNLimit": "2"]
        try await withServer(policy: policy) { sandbox, manager in
            let dn = try DN(parsing: sandbox.daemonDN)
            let options = ConnectionOptions(
                credentials: .simple(bindDN: dn, password: Secret(sandbox.daemonPassword)))
            let server = try ServerAddress(parsing: sandbox.uri)
            // The example tree was there before the policy: its passwords have no age.
            #expect(try await LDAPConnection.open(server, options: options).passwordPolicy?.fault == nil)
            // With pwdMustChange, a password that an administrator has set.
            let password = Modification.replace("userPassword", AttributeValue(sandbox.daemonPassword))
            try await manager.modify(dn, [password])
            let reset = try await LDAPConnection.open(server, options: options)
            #expect(reset.passwordPolicy?.fault == .changeAfterReset)
            try await manager.modify(
                DN(parsing: Self.policyDN), [.replace("pwdMustChange", "FALSE"), .replace("pwdMaxAge", "1")])
            try await manager.modify(dn, [password])
            var notices: [PasswordPolicyResponse?] = []
            try await eventually("the password expires") {
                notices.append(try await LDAPConnection.open(server, options: options).passwordPolicy)
                return notices.last??.graceLogins != nil
            }
            #expect(notices.last??.graceLogins == 1)
            #expect(try await LDAPConnection.open(server, options: options).passwordPolicy?.graceLogins == 0)
            let expired = try #require(
                await failure { () async throws(LDAPError) in
                    try await LDAPConnection.open(server, options: options)
                })
            #expect(expired.code == .invalidCredentials && expired.passwordPolicy?.fault == .passwordExpired)
            #expect(expired.hint == "set a new password at the server")
            #expect(try await LDAPConnection.open(server).passwordPolicy == nil)
        }
    }
}
