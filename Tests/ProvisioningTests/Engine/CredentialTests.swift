import LDAP
import Sandbox
import JobCore
import TestSupport
import Testing

@testable import Provisioning

/// A password that the server refuses is tried seldom, and by one connection, since a password policy counts.
@Suite struct CredentialTests {
    private static let noon = Timestamp(secondsSince1970: 1_795_262_400)
    private static let policyDN = "cn=policy,\(SandboxTree.suffix)"

    /// A server whose policy counts, and locks where it is told to.
    private static var options: SandboxOptions {
        var options = SandboxOptions.testing
        options.globalLines = ["moduleload ppolicy"]
        options.databaseLines = ["overlay ppolicy", "ppolicy_default \"\(policyDN)\"", "ppolicy_use_lockout"]
        return options
    }

    private func withPolicy(
        _ attributes: [AttributeName: String], clock: ManualClock = ManualClock(noon),
        _ body: (EngineHarness, ManualClock) async throws -> Void
    ) async throws {
        try await EngineHarness.run(sandbox: Self.options, clock: clock) { harness in
            var policy = Entry(dn: try DN(parsing: Self.policyDN))
            policy["objectClass"] = ["organizationalRole", "pwdPolicy"]
            policy["cn"] = ["policy"]
            policy["pwdAttribute"] = ["userPassword"]
            for (name, value) in attributes { policy[name] = [AttributeValue(value)] }
            try await harness.manager.add(policy)
            try await body(harness, clock)
        }
    }

    /// How many wrong passwords the server has counted.
    private func failures(_ harness: EngineHarness) async throws -> Int {
        let dn = try DN(parsing: harness.sandbox.daemonDN)
        return try await harness.manager.entry(at: dn, attributes: ["pwdFailureTime"])?["pwdFailureTime"].count ?? 0
    }

    private func refused(_ harness: EngineHarness) -> [String] {
        harness.messages.filter { $0.hasPrefix("error: the LDAP server refuses the daemon's credentials") }
    }

    private func setPassword(_ password: String, _ harness: EngineHarness) async throws {
        try await harness.manager.modify(
            DN(parsing: harness.sandbox.daemonDN), [.replace("userPassword", AttributeValue(password))])
    }

    private func withPassword(_ password: String, _ harness: EngineHarness) throws -> Engine.Configuration {
        var configuration = try harness.configuration()
        configuration.connection.credentials = .simple(
            bindDN: try DN(parsing: harness.sandbox.daemonDN), password: Secret(password))
        // Never at a time when credentials are tried: a deadline then is the login's.
        configuration.timing.relistInterval = .seconds(100_000)
        return configuration
    }

    @Test(
        "a refused password is tried by one connection: after 5 minutes, then hourly; once it is right all connections are made"
    )
    func seldom() async throws {
        try await withPolicy(["pwdLockout": "TRUE", "pwdMaxRecordedFailure": "100"]) { harness, clock in
            try await harness.add("4000001")
            try await harness.running {
                $0 = try withPassword("wrong", harness)
                $0.password = "ADMIN_PASSWORD_FILE (/etc/secret)"
            } _: { engine in
                // A list, and a read of the reconciler: three connections are asked for.
                let reading = Task { try await engine.account(harness.key("4000001"), attributes: []) }
                let listing = Task {
                    for try await _ in await engine.accounts(attributes: []) {}
                }
                var next = Self.noon
                for (number, wait) in [300, 3_600, 3_600].enumerated() {
                    next = next + .seconds(wait)
                    try await eventually("refusal \(number)") { refused(harness).count == number + 1 }
                    #expect(try await failures(harness) == number + 1)
                    let message = refused(harness)[number]
                    #expect(message.contains("bind \(harness.sandbox.daemonDN)"), "\(message)")
                    #expect(
                        message.contains("the next try is at \(next.text), so that"), "\(message)")
                    #expect(message.contains("ADMIN_PASSWORD_FILE (/etc/secret)"), "\(message)")
                    let snapshot = await engine.snapshot()
                    #expect(!snapshot.isLDAPAvailable)
                    #expect(snapshot.refusedCredentials?.contains("\(next.text)") == true)
                    #expect(snapshot.refusedCredentials?.contains("systemctl reload prov-backup-rsnapshot") == true)
                    await #expect(throws: LDAPError.self) { try await engine.reachLDAP() }
                    try await eventually("it waits") { clock.deadlines.contains(next) }
                    clock.advance(to: next + .seconds(-1))
                    #expect(clock.deadlines.contains(next))
                    if number == 2 { try await setPassword("wrong", harness) }
                    clock.advance(to: next)
                }
                try await listing.value
                #expect(try await reading.value != nil)
                try await harness.expectMode("added", of: "4000001")
                try await eventually("it is told") {
                    harness.messages.contains { $0.contains("accepts the daemon's credentials again") }
                }
                #expect(await engine.snapshot().refusedCredentials == nil)
            }
            #expect(refused(harness).count == 3)
        }
    }

    @Test("new settings are tried at once, also where they hold the same password")
    func reload() async throws {
        try await withPolicy(["pwdLockout": "TRUE", "pwdMaxRecordedFailure": "100"]) { harness, clock in
            try await harness.add("4000001")
            try await harness.running {
                $0 = try withPassword("wrong", harness)
            } _: { engine in
                for number in 1...4 {
                    try await eventually("refusal \(number)") { refused(harness).count == number }
                    #expect(try await failures(harness) == number)
                    if number < 4 { try await harness.reload(engine, withPassword("wrong", harness)) }
                }
                try await harness.reload(engine, harness.configuration())
                try await harness.expectMode("added", of: "4000001")
                #expect(clock.now == Self.noon)
            }
        }
    }

    @Test("a stop ends the wait of those whose password is refused")
    func stop() async throws {
        try await EngineHarness.run(clock: ManualClock(Self.noon)) { harness in
            let engine = try await harness.engine { $0 = try withPassword("wrong", harness) }
            await engine.start()
            let listing = Task { for try await _ in await engine.accounts(attributes: []) {} }
            try await eventually("it is refused") { refused(harness).count == 1 }
            await engine.stop(grace: .zero)
            await #expect(throws: (any Error).self) { try await listing.value }
        }
    }

    @Test("a locked account is named, and the answer of the password policy is in the message")
    func locked() async throws {
        let policy: [AttributeName: String] = ["pwdLockout": "TRUE", "pwdMaxFailure": "2"]
        try await withPolicy(policy) { harness, clock in
            try await harness.running {
                $0 = try withPassword("wrong", harness)
            } _: { _ in
                for (number, wait) in [300, 3_600, 3_600].enumerated() {
                    try await eventually("refusal \(number)") { refused(harness).count == number + 1 }
                    let next = clock.now + .seconds(wait)
                    try await eventually("it waits") { clock.deadlines.contains(next) }
                    clock.advance(to: next)
                }
                try await eventually("refusal 4") { refused(harness).count == 4 }
            }
            let message = try #require(refused(harness).last)
            #expect(message.contains("(password policy: the account is locked); unlock the account"), "\(message)")
            #expect(message.contains(harness.sandbox.daemonDN), "\(message)")
        }
    }

    @Test("a password that is about to expire is logged once, for all connections")
    func expiring() async throws {
        let policy: [AttributeName: String] = ["pwdMaxAge": "864000", "pwdExpireWarning": "900000"]
        try await withPolicy(policy) { harness, _ in
            try await setPassword(harness.sandbox.daemonPassword, harness)
            try await harness.running { engine in
                for number in 1...3 {
                    try await harness.add("400000\(number)")
                    try await harness.expectMode("added", of: "400000\(number)")
                    for try await _ in await engine.accounts(attributes: []) {}
                }
            }
            let warnings = harness.messages.filter {
                $0.hasPrefix("warning: the password of the daemon's LDAP account")
            }
            #expect(warnings.count == 1, "\(warnings)")
            #expect(warnings.first?.contains("it expires at 2026") == true, "\(warnings)")
        }
    }

    // MARK: Values

    private static let refusal = LDAPError(.invalidCredentials, operation: "bind cn=a", server: "ldap://b")
    private static let away = LDAPError(.connectError, operation: "connect", server: "ldap://b")

    @Test("one attempt to log in at a time; after a refusal none for 5 minutes, after the next ones none for an hour")
    func loginState() {
        var state = LoginState()
        #expect(state.ask() == .granted)
        #expect(state.ask() == .taken)
        #expect(state.failed(Self.away) == nil)
        #expect(state.ask() == .granted)
        #expect(state.failed(Self.refusal) == .seconds(300))
        #expect(state.ask() == .refused(Self.refusal))
        state.delayEnded()
        #expect(state.ask() == .granted)
        #expect(state.ask() == .taken)
        // A server that does not answer does not make a wrong password right.
        #expect(state.failed(Self.away) == nil)
        #expect(state.ask() == .granted)
        #expect(state.failed(Self.refusal) == .seconds(3_600))
        state.delayEnded()
        #expect(state.ask() == .granted)
        state = LoginState()
        #expect(state.ask() == .granted)
        #expect(state.failed(Self.refusal) == .seconds(300))
    }

    @Test("a warning is logged again when it has changed, and not because of elapsed seconds")
    func warnings() throws {
        func warning(_ policy: PasswordPolicyResponse, after seconds: Int = 0) -> PasswordWarning? {
            PasswordWarning(policy, at: Self.noon + .seconds(seconds))
        }
        let first = try #require(warning(PasswordPolicyResponse(timeBeforeExpiration: .seconds(1_000))))
        let later = try #require(warning(PasswordPolicyResponse(timeBeforeExpiration: .seconds(899)), after: 100))
        let other = try #require(warning(PasswordPolicyResponse(timeBeforeExpiration: .seconds(1_000)), after: 100))
        let grace = try #require(warning(PasswordPolicyResponse(graceLogins: 2)))
        #expect(later.isSame(as: first) && !other.isSame(as: first) && !first.isSame(as: nil))
        #expect(!grace.isSame(as: first) && !first.isSame(as: grace) && grace.isSame(as: grace))
        #expect(!(try #require(warning(PasswordPolicyResponse(graceLogins: 1)))).isSame(as: grace))
        #expect(warning(PasswordPolicyResponse()) == nil && PasswordWarning(nil, at: Self.noon) == nil)
        #expect("\(grace)".hasSuffix("it has expired, and the server accepts it 2 more times"))
    }
}
