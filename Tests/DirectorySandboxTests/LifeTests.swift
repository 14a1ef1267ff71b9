import DirectorySandbox
import Foundation
import Glibc
import Subprocess
import SystemPackage
import Testing

@Suite struct LifeTests {
    @Test func `a started sandbox lets the Manager, the daemon and the self-care page in, with their passwords only`()
        async throws
    {
        try await DirectorySandbox.temporary { sandbox in
            for (dn, password) in [
                (sandbox.adminDN, sandbox.adminPassword), (sandbox.daemonDN, sandbox.daemonPassword),
                (sandbox.selfcareDN, sandbox.selfcarePassword),
            ] {
                let outcome = try await ldap("ldapwhoami", sandbox, as: dn, password, [])
                #expect(outcome.output == "dn:\(dn)\n", "\(outcome.errors)")
                let wrong = try await ldap("ldapwhoami", sandbox, as: dn, password + "x", [])
                #expect(wrong.code == 49)
            }
        }
    }

    @Test func `stop removes all that was made and leaves no process behind`() async throws {
        try await withFolder { folder in
            let place = folder.appending("s")
            let sandbox = try await DirectorySandbox.start(in: place, options: .testing)
            #expect(try !processes(naming: place).isEmpty)
            try await sandbox.stop()
            #expect(!FileManager.default.fileExists(atPath: place.string))
            #expect(try await eventually { try processes(naming: place).isEmpty })
        }
    }
}
