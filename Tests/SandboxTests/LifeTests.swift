import Sandbox
import Foundation
import Glibc
import SystemPackage
import Testing

/// How a sandbox begins, lasts and ends.
@Suite struct LifeTests {
    @Test
    func `in a started sandbox the Manager, the daemon and the self-care page can bind, only with their passwords`()
        async throws
    {
        try await LDAPSandbox.temporary { sandbox in
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

    @Test func `only the owner can read the files of a sandbox`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let directory = sandbox.directory.string
            #expect(try mode(directory) == 0o700)
            let files = try FileManager.default.contentsOfDirectory(atPath: directory).filter {
                $0.hasSuffix(".password")
            }
            #expect(files.count == 3)
            for file in files + ["slapd.conf"] { #expect(try mode("\(directory)/\(file)") == 0o600) }
            let text = try String(contentsOfFile: sandbox.daemonPasswordFile.string, encoding: .utf8)
            #expect(text == sandbox.daemonPassword + "\n")
            #expect(Set([sandbox.adminPassword, sandbox.daemonPassword, sandbox.selfcarePassword]).count == 3)
        }
    }

    @Test func `stop removes the sandbox's files and leaves no process`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("deep").appending("s")
            var options = SandboxOptions.testing
            options.tls = true
            let sandbox = try await LDAPSandbox.start(in: place, options: options)
            #expect(try !processes(naming: place).isEmpty)
            try await sandbox.stop()
            #expect(!FileManager.default.fileExists(atPath: place.string))
            try await expectNoProcess(naming: place)
            #expect(try SandboxStatus.of(place) == .absent)
        }
    }

    @Test func `stop does not remove other files`() async throws {
        try await withDirectory { directory in
            let sandbox = try await LDAPSandbox.start(in: directory, options: .testing)
            try "mine".write(toFile: directory.appending("notes.txt").string, atomically: false, encoding: .utf8)
            try await sandbox.stop()
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string) == ["notes.txt"])
        }
    }

    @Test func `a temporary sandbox is removed with all files in its directory, also after an error`()
        async throws
    {
        struct Trouble: Error {}
        var directories: [FilePath] = []
        for fails in [false, true] {
            do {
                try await LDAPSandbox.temporary { sandbox in
                    directories.append(sandbox.directory)
                    let file = sandbox.directory.appending("notes.txt").string
                    try "mine".write(toFile: file, atomically: false, encoding: .utf8)
                    if fails { throw Trouble() }
                }
                #expect(!fails)
            } catch is Trouble {
                #expect(fails)
            }
        }
        #expect(directories.count == 2)
        for directory in directories {
            #expect(!FileManager.default.fileExists(atPath: directory.string))
            try await expectNoProcess(naming: directory)
        }
    }

    @Test func `a directory with other files is refused and not changed`() async throws {
        try await withDirectory { directory in
            try "mine".write(toFile: directory.appending("slapd.conf").string, atomically: false, encoding: .utf8)
            let error = try await refusal(in: directory)
            #expect(error.code == .directory && "\(error)".contains(directory.string))
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string) == ["slapd.conf"])
        }
    }

    @Test func `two sandboxes can run at the same time and are independent`() async throws {
        try await LDAPSandbox.temporary { one in
            try await LDAPSandbox.temporary { two in
                #expect(one.uri != two.uri && one.processID != two.processID)
                try await one.load(accountLDIF(3_723_707))
                for (sandbox, count) in [(one, 10), (two, 9)] {
                    let found = try await ldap(
                        "ldapsearch", sandbox, as: sandbox.adminDN, sandbox.adminPassword,
                        ["-LLL", "-b", SandboxTree.suffix, "1.1"])
                    #expect(found.output.split(separator: "\n").filter { $0.hasPrefix("dn: ") }.count == count)
                }
                let foreign = try await ldap("ldapwhoami", two, as: one.adminDN, one.adminPassword, [])
                #expect(foreign.code == 49)
            }
        }
    }

    @Test func `a second start in one directory reports the running server and does not affect it`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let error = try await refusal(in: sandbox.directory)
            #expect(error.code == .alreadyRunning)
            #expect("\(error)".contains("process \(sandbox.processID)"))
            #expect(sandbox.isRunning)
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 0)
        }
    }

    @Test func `of several concurrent starts in one directory exactly one succeeds`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let started = await withTaskGroup(of: LDAPSandbox?.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        do { return try await LDAPSandbox.start(in: place, options: .testing) } catch {
                            #expect((error as? SandboxError)?.code == .alreadyRunning, "\(error)")
                            return nil
                        }
                    }
                }
                return await group.reduce(into: [LDAPSandbox]()) { if let sandbox = $1 { $0.append(sandbox) } }
            }
            #expect(started.count == 1)
            for sandbox in started { try await sandbox.stop() }
        }
    }

    @Test(arguments: ["not a number", "0", "-1", "1", "SELF", "4194304000"])
    func `a stale pid file is no obstacle, and the process it names by chance is left alone`(content: String)
        async throws
    {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let first = try await LDAPSandbox.start(in: place, options: .testing)
            try await first.stop(keepingData: true)
            let pid = content == "SELF" ? "\(getpid())" : content
            try pid.write(toFile: place.appending("slapd.pid").string, atomically: false, encoding: .utf8)
            #expect(try SandboxStatus.of(place) == .stopped)
            let second = try await LDAPSandbox.start(in: place, options: .testing)
            #expect(try await ldap("ldapwhoami", second, as: first.daemonDN, first.daemonPassword, []).code == 0)
            try await second.stop()
        }
    }

    @Test func `a running server is found by its directory, and can be stopped by another process`()
        async throws
    {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let nothing = try #require(throws: SandboxError.self) { _ = try LDAPSandbox.running(in: directory) }
            #expect(nothing.code == .notRunning)
            let started = try await LDAPSandbox.start(in: place, options: .testing)
            let found = try LDAPSandbox.running(in: place)
            #expect(found.processID == started.processID && found.uri == started.uri)
            #expect(found.adminPassword == started.adminPassword)
            #expect(
                try SandboxStatus.of(place)
                    == .running(processID: started.processID, paused: false, uris: [started.uri]))
            try await found.stop()
            #expect(!started.isRunning)
            #expect(try SandboxStatus.of(place) == .absent)
        }
    }

    @Test func `a sandbox whose data was kept starts again with its entries and passwords`() async throws {
        try await withDirectory { directory in
            let place = directory.appending("s")
            let first = try await LDAPSandbox.start(in: place, options: .testing)
            try await first.load(accountLDIF(3_723_707))
            try await first.stop(keepingData: true)
            #expect(try SandboxStatus.of(place) == .stopped)
            let second = try await LDAPSandbox.start(in: place, options: .testing)
            let found = try await ldap(
                "ldapsearch", second, as: first.daemonDN, first.daemonPassword,
                ["-LLL", "-b", accountDN(3_723_707), "-s", "base", "uid"])
            #expect(found.output.contains("uid: 3723707\n"))
            try await second.stop()
        }
    }

    @Test func `a socket path that is too long for the system is replaced by a short private one`() async throws {
        try await withDirectory { directory in
            let place = directory.appending(String(repeating: "long", count: 20))
            let sandbox = try await LDAPSandbox.start(in: place, options: .testing)
            #expect(!sandbox.uri.contains("longlong"))
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 0)
            let encoded = sandbox.uri.dropFirst("ldapi://".count)
            let socket = FilePath(try #require(String(encoded).removingPercentEncoding))
            let short = socket.removingLastComponent()
            #expect(try mode(short.string) == 0o700)
            try await sandbox.stop()
            #expect(!FileManager.default.fileExists(atPath: short.string))
            #expect(!FileManager.default.fileExists(atPath: place.string))
        }
    }

    @Test func `a directory's name may contain blanks, quotes and characters with a meaning in a URI`() async throws {
        try await withDirectory { directory in
            let place = directory.appending(#"a "b" c\d %2F?#é"#)
            let sandbox = try await LDAPSandbox.start(in: place, options: .testing)
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 0)
            try await sandbox.stop()
            #expect(!FileManager.default.fileExists(atPath: place.string))
        }
    }

    private func mode(_ path: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return try #require(attributes[.posixPermissions] as? NSNumber).intValue
    }
}
