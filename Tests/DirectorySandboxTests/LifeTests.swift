import DirectorySandbox
import Foundation
import Glibc
import SystemPackage
import Testing

/// How a sandbox begins, lasts and ends.
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

    @Test func `only the owner can read what a sandbox keeps, the passwords above all`() async throws {
        try await DirectorySandbox.temporary { sandbox in
            let folder = sandbox.directory.string
            #expect(try mode(folder) == 0o700)
            let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".password") }
            #expect(files.count == 3)
            for file in files + ["slapd.conf"] { #expect(try mode("\(folder)/\(file)") == 0o600) }
            let text = try String(contentsOfFile: sandbox.daemonPasswordFile.string, encoding: .utf8)
            #expect(text == sandbox.daemonPassword + "\n")
            #expect(Set([sandbox.adminPassword, sandbox.daemonPassword, sandbox.selfcarePassword]).count == 3)
        }
    }

    @Test func `stop removes all that was made and leaves no process behind`() async throws {
        try await withFolder { folder in
            let place = folder.appending("deep").appending("s")
            var options = SandboxOptions.testing
            options.tls = true
            let sandbox = try await DirectorySandbox.start(in: place, options: options)
            #expect(try !processes(naming: place).isEmpty)
            try await sandbox.stop()
            #expect(!FileManager.default.fileExists(atPath: place.string))
            try await expectNoProcess(naming: place)
            #expect(try SandboxStatus.of(place) == .absent)
        }
    }

    @Test func `stop leaves files alone that are not the sandbox's`() async throws {
        try await withFolder { folder in
            let sandbox = try await DirectorySandbox.start(in: folder, options: .testing)
            try "mine".write(toFile: folder.appending("notes.txt").string, atomically: false, encoding: .utf8)
            try await sandbox.stop()
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.string) == ["notes.txt"])
        }
    }

    @Test func `a temporary sandbox is gone with all that was put into its folder, also after an error`() async throws {
        struct Trouble: Error {}
        var folders: [FilePath] = []
        for fails in [false, true] {
            do {
                try await DirectorySandbox.temporary { sandbox in
                    folders.append(sandbox.directory)
                    let file = sandbox.directory.appending("notes.txt").string
                    try "mine".write(toFile: file, atomically: false, encoding: .utf8)
                    if fails { throw Trouble() }
                }
                #expect(!fails)
            } catch is Trouble {
                #expect(fails)
            }
        }
        #expect(folders.count == 2)
        for folder in folders {
            #expect(!FileManager.default.fileExists(atPath: folder.string))
            try await expectNoProcess(naming: folder)
        }
    }

    @Test func `a folder that holds other files is refused and left as it is`() async throws {
        try await withFolder { folder in
            try "mine".write(toFile: folder.appending("slapd.conf").string, atomically: false, encoding: .utf8)
            let error = try await refusal(in: folder)
            #expect(error.code == .folder && "\(error)".contains(folder.string))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.string) == ["slapd.conf"])
        }
    }

    @Test func `two sandboxes run side by side and know nothing of each other`() async throws {
        try await DirectorySandbox.temporary { one in
            try await DirectorySandbox.temporary { two in
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

    @Test func `a second start in one folder says that one runs already, and does it no harm`() async throws {
        try await DirectorySandbox.temporary { sandbox in
            let error = try await refusal(in: sandbox.directory)
            #expect(error.code == .alreadyRunning)
            #expect("\(error)".contains("process \(sandbox.processID)"))
            #expect(sandbox.isRunning)
            #expect(try await ldap("ldapwhoami", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, []).code == 0)
        }
    }

    @Test func `of several starts in one folder at once exactly one succeeds`() async throws {
        try await withFolder { folder in
            let place = folder.appending("s")
            let started = await withTaskGroup(of: DirectorySandbox?.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        do { return try await DirectorySandbox.start(in: place, options: .testing) } catch {
                            #expect((error as? SandboxError)?.code == .alreadyRunning, "\(error)")
                            return nil
                        }
                    }
                }
                return await group.reduce(into: [DirectorySandbox]()) { if let sandbox = $1 { $0.append(sandbox) } }
            }
            #expect(started.count == 1)
            for sandbox in started { try await sandbox.stop() }
        }
    }

    @Test(arguments: ["not a number", "0", "-1", "1", "SELF", "4194304000"])
    func `a stale pid file is no obstacle, and the process it names by chance is left alone`(content: String)
        async throws
    {
        try await withFolder { folder in
            let place = folder.appending("s")
            let first = try await DirectorySandbox.start(in: place, options: .testing)
            try await first.stop(keepingData: true)
            let pid = content == "SELF" ? "\(getpid())" : content
            try pid.write(toFile: place.appending("slapd.pid").string, atomically: false, encoding: .utf8)
            #expect(try SandboxStatus.of(place) == .stopped)
            let second = try await DirectorySandbox.start(in: place, options: .testing)
            #expect(try await ldap("ldapwhoami", second, as: first.daemonDN, first.daemonPassword, []).code == 0)
            try await second.stop()
        }
    }

    @Test func `a server that is there can be found by its folder, and stopped by another process's means`()
        async throws
    {
        try await withFolder { folder in
            let place = folder.appending("s")
            let nothing = try #require(throws: SandboxError.self) { _ = try DirectorySandbox.running(in: folder) }
            #expect(nothing.code == .notRunning)
            let started = try await DirectorySandbox.start(in: place, options: .testing)
            let found = try DirectorySandbox.running(in: place)
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
        try await withFolder { folder in
            let place = folder.appending("s")
            let first = try await DirectorySandbox.start(in: place, options: .testing)
            try await first.load(accountLDIF(3_723_707))
            try await first.stop(keepingData: true)
            #expect(try SandboxStatus.of(place) == .stopped)
            let second = try await DirectorySandbox.start(in: place, options: .testing)
            let found = try await ldap(
                "ldapsearch", second, as: first.daemonDN, first.daemonPassword,
                ["-LLL", "-b", accountDN(3_723_707), "-s", "base", "uid"])
            #expect(found.output.contains("uid: 3723707\n"))
            try await second.stop()
        }
    }

    @Test func `a socket path that is too long for the system is replaced by a short private one`() async throws {
        try await withFolder { folder in
            let place = folder.appending(String(repeating: "long", count: 20))
            let sandbox = try await DirectorySandbox.start(in: place, options: .testing)
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

    @Test func `a folder's name may hold blanks, quotes and what has a meaning in a URI`() async throws {
        try await withFolder { folder in
            let place = folder.appending(#"a "b" c\d %2F?#é"#)
            let sandbox = try await DirectorySandbox.start(in: place, options: .testing)
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
