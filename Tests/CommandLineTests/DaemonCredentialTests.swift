import LDAP
import Sandbox
import Foundation
import Glibc
import TestSupport
import Testing

/// A password that the LDAP server refuses, tested with the built program.
@Suite struct DaemonCredentialTests {
    private static let policyDN = "cn=policy,\(SandboxTree.suffix)"

    /// A server with a password policy that counts wrong passwords, and settings with a password file of their own.
    private static func withPolicy(_ body: (DaemonHarness, _ password: URL) async throws -> Void) async throws {
        var options = SandboxOptions.testing
        options.globalLines = ["moduleload ppolicy"]
        options.databaseLines = ["overlay ppolicy", "ppolicy_default \"\(policyDN)\"", "ppolicy_use_lockout"]
        try await DaemonHarness.run(options: options) { harness in
            var policy = Entry(dn: try DN(parsing: policyDN))
            policy["objectClass"] = ["organizationalRole", "pwdPolicy"]
            policy["cn"] = ["policy"]
            policy["pwdAttribute"] = ["userPassword"]
            policy["pwdLockout"] = ["TRUE"]
            policy["pwdMaxRecordedFailure"] = ["100"]
            try await harness.manager.add(policy)
            let password = harness.directory.appending(path: "password")
            try write("wrong", to: password)
            try harness.settings(database: "ADMIN_PASSWORD_FILE = \(password.path)")
            try await body(harness, password)
        }
    }

    private static func write(_ password: String, to file: URL) throws {
        let draft = file.appendingPathExtension("new")
        try "\(password)\n".write(to: draft, atomically: true, encoding: .utf8)
        chmod(draft.path, 0o600)
        #expect(rename(draft.path, file.path) == 0)
    }

    /// How many wrong passwords the server has counted.
    private func failures(_ harness: DaemonHarness) async throws -> Int {
        let dn = try DN(parsing: harness.sandbox.daemonDN)
        return try await harness.manager.entry(at: dn, attributes: ["pwdFailureTime"])?["pwdFailureTime"].count ?? 0
    }

    @Test(
        "the log, health and status say that the password is refused; a new one in its file lets the daemon in at once")
    func replaced() async throws {
        try await Self.withPolicy { harness, password in
            try await harness.add("3724300")
            let daemon = try harness.start()
            try await daemon.says("the LDAP server refuses the daemon's credentials: bind \(harness.sandbox.daemonDN)")
            #expect(daemon.output.contains("correct ADMIN_PASSWORD_FILE (\(password.path))"), "\(daemon.output)")
            let health = try await harness.command("health")
            #expect(health.status == 2 && health.output.contains("the next try is at 2"), "\(health.output)")
            for arguments in [["status"], ["status", "--json"]] {
                let status = try RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                #expect(await status.end() == 0)
                #expect(status.output.contains("refuses the daemon's credentials"), "\(status.output)")
            }
            #expect(try await failures(harness) == 1)

            // Somebody is writing the other settings.
            try harness.settings(
                database: "ADMIN_PASSWORD_FILE = \(password.path)", service: "SLOTS = none at all",
                backup: "HOME_SCRIPT = /nonexistent.sh")
            try Self.write(harness.sandbox.daemonPassword, to: password)
            try await harness.reached("added", "3724300")
            try await daemon.says("accepts the daemon's credentials again")
            #expect(!daemon.output.contains("have been reloaded"), "\(daemon.output)")
            #expect(try await harness.command("health").status == 0)
            await harness.stop(daemon)
        }
    }

    @Test("commands try a wrong password once and show what the password policy says")
    func commands() async throws {
        try await Self.withPolicy { harness, _ in
            for (number, arguments) in [["check"], ["run", "--once"], ["accounts", "list"], ["status"]].enumerated() {
                let command = try RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                _ = await command.end()
                #expect(command.output.contains("invalidCredentials (49)"), "\(command.output)")
                #expect(try await failures(harness) == number + 1, "\(arguments)")
            }
            let lock = Modification.replace("pwdAccountLockedTime", "000001010000Z")
            try await harness.manager.modify(DN(parsing: harness.sandbox.daemonDN), [lock])
            let locked = try await harness.command("check")
            #expect(locked.output.contains("(password policy: the account is locked)"), "\(locked.output)")
        }
    }
}
