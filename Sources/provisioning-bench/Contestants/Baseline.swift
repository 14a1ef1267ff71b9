import SystemPackage

/// A program that administrators write in place of the daemon; see the directory bench.
enum Baseline: String, CaseIterable, Sendable {
    case shell, perl

    /// Lets it carry out all wishes that wait, and returns when it has.
    func run(on stage: Stage) async throws {
        let program = try DaemonRun.checkout().appending("bench").appending("baseline-\(rawValue)")
        try await Tool.run(
            program,
            environment: [
                "LDAP_URI": stage.sandbox.uri, "BIND_DN": stage.sandbox.daemonDN,
                "PASSWORD_FILE": stage.passwordFile.string, "BASE": Stage.accountsDN, "SCRIPT": Limits.program,
            ])
    }
}
