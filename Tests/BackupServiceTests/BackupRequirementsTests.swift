import Glibc
import JobCore
import SystemPackage
import Testing

@testable import BackupService

@Suite struct BackupRequirementsTests {
    @Test("no requirement is unmet on a complete machine", .enabled(if: Program.isExecutable("/usr/bin/rsnapshot")))
    func good() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration { $0.homeScript = shippedScript }
        let before = try directory.listing()
        let findings = await configuration.requirements()
        #expect(findings.filter { !$0.isMet } == [])
        #expect(findings.contains { $0.subject == "RSNAPSHOT" && $0.finding.contains("1.") })
        #expect(try directory.listing() == before)
    }

    @Test("all missing requirements are reported, each with its hint")
    func bad() async throws {
        let directory = try TestDirectory()
        let absent = directory.path.appending("absent")
        let configuration = try directory.configuration {
            $0.homeScript = absent
            $0.places = HomePlaces(roots: [absent])
            $0.rsnapshot = absent
            $0.template = absent
            $0.configurationDirectory = absent
            $0.quota = .setquota
            $0.programDirectories = [absent]
        }
        let unmet = await configuration.requirements().filter { !$0.isMet }
        #expect(
            Set(unmet.map(\.subject)) == [
                "HOME_ROOTS", "QUOTA", "HOME_SCRIPT", "rsync", "setquota", "bwrap", "RSNAPSHOT", "RSNAPSHOT_TEMPLATE",
                "RSNAPSHOT_CONFIG_DIRECTORY",
            ])
        #expect(unmet.allSatisfy { $0.hint?.isEmpty == false })
        // A directory made in place of an unmounted volume would take the homes.
        for (subject, isVolume) in [("HOME_ROOTS", true), ("RSNAPSHOT_CONFIG_DIRECTORY", false)] {
            let hint = unmet.first { $0.subject == subject }?.hint
            #expect(hint?.contains("install -d") == true && hint?.contains("mount") == isVolume, "\(hint ?? "")")
        }
    }

    @Test(
        "an rsnapshot that is too old is reported",
        arguments: [("1.2.9", false), ("1.3.0", true), ("1.10", true), ("2.0", true)])
    func version(text: String, isMet: Bool) async throws {
        let directory = try TestDirectory()
        let program = try directory.write("#!/bin/sh\necho rsnapshot \(text)-1\n", to: "rsnapshot", mode: 0o755)
        let findings = await (try directory.configuration { $0.rsnapshot = program }).requirements()
        #expect(findings.first { $0.subject == "RSNAPSHOT" }?.isMet == isMet)
    }

    @Test(
        "an rsync that follows links while it writes is reported, only as a note if copies run as the account",
        arguments: [("3.2.7", false), ("3.4.1", false), ("3.5.0", true), ("4.0", true)])
    func rsync(text: String, isMet: Bool) async throws {
        let directory = try TestDirectory()
        try directory.write("#!/bin/sh\necho 'rsync  version \(text)  protocol version 32'\n", to: "rsync", mode: 0o755)
        for confinement in CopyConfinement.allCases {
            let configuration = try directory.configuration {
                ($0.programDirectories, $0.confinement) = ([directory.path], confinement)
            }
            let finding = await configuration.requirements().first { $0.subject == "rsync" }
            #expect(
                finding?.isMet == (isMet || confinement == .on) && finding?.isNote == (!isMet && confinement == .on))
        }
    }

    @Test(
        "a file system that counts quotas without enforcing them is reported, by its options if the kernel does not tell",
        arguments: [
            ("rw", nil, false), ("rw,quota,usrquota", nil, true), ("rw,usrjquota=aquota.user", nil, true),
            ("rw,attr2,noquota", nil, false), ("rw,usrquota", false, false), ("rw", true, true),
        ])
    func enforcement(options: String, isEnforced: Bool?, isMet: Bool) throws {
        for type in ["ext4", "xfs"] {
            let table = MountTable(parsing: "31 27 8:1 / /srv/it's rw - \(type) /dev/sda1 \(options)\n")
            let mount = try #require(table.mounts.first)
            let found = BackupConfiguration.enforcement(on: mount, isEnforced: isEnforced)
            #expect(found.isMet == isMet)
            let command = type == "xfs" ? "umount '/srv/it'\\''s' && mount" : "quotaon -u '/srv/it'\\''s'"
            #expect(isMet || found.hint?.contains(command) == true, "\(found)")
        }
    }

    @Test(
        "for a file system that setquota does not know no mount option is recommended",
        arguments: ["tmpfs", "nfs4", "overlay", "btrfs"])
    func withoutQuotas(type: String) throws {
        let mount = try #require(MountTable(parsing: "31 27 8:1 / /srv rw - \(type) none rw\n").mounts.first)
        let found = BackupConfiguration.enforcement(on: mount, isEnforced: nil)
        #expect(!found.isMet && found.finding.contains(type))
        #expect(found.hint?.contains("mount -o") == false && found.hint?.contains("QUOTA = none") == true)
        #expect(found.hint?.contains("QUOTA = btrfs") == (type == "btrfs"))
    }

    @Test("a file system without quotas enforces none, by the kernel's answer")
    func kernelAnswer() throws {
        #expect(try HeldDirectory(configured: "/proc").enforcesUserQuota != true)
    }

    @Test("in layout hashed two names of one volume are reported")
    func twins() async throws {
        let directory = try TestDirectory()
        let link = directory.path.appending("link")
        try directory.link("link", to: directory.homes)
        for layout in HomeLayout.allCases {
            let configuration = try directory.configuration {
                $0.places = HomePlaces(layout: layout, roots: [directory.homes, link])
            }
            let found = await configuration.requirements().filter { $0.subject == "home places" }
            let expected = layout == .hashed ? ["\(directory.homes) and \(link) are the same directory"] : []
            #expect(found.map(\.finding) == expected && found.allSatisfy { !$0.isMet })
        }
    }

    @Test("QUOTA = btrfs on a volume with another file system is reported")
    func otherFileSystem() async throws {
        let directory = try TestDirectory()
        let mount = isRoot ? try TestMount(at: directory.homes) : nil
        let configuration = try directory.configuration { $0.quota = .btrfs }
        let findings = await configuration.requirements()
        let unmet = findings.filter { $0.subject == "QUOTA" && !$0.isMet }
        #expect(unmet.count == 1)
        #expect(unmet.first?.finding.contains("not btrfs") == true)
        #expect(unmet.first?.hint?.contains("QUOTA = none") == true)
        withExtendedLifetime(mount) {}
    }

    @Test(
        "QUOTA = btrfs on a btrfs without quotas is reported, and accepted with quotas",
        .enabled(if: canMountBtrfs, "needs root, loop devices and btrfs-progs"))
    func btrfs() async throws {
        let directory = try TestDirectory()
        try await mountBtrfs(in: directory)
        let configuration = try directory.configuration { $0.quota = .btrfs }
        func finding() async -> Requirement? {
            await configuration.requirements().first { $0.subject == "QUOTA" }
        }
        #expect(await finding()?.hint?.contains("btrfs quota enable") == true)
        try await runTool("/usr/bin/btrfs", "quota", "enable", directory.homes.string)
        #expect(await finding()?.isMet == true)
    }

    @Test("a volume without nosuid or nodev is a warning with the command")
    func restriction() throws {
        func found(_ options: String, at point: String = "/srv/it's", mayHoldDevices: Bool = false) throws
            -> Requirement?
        {
            let table = MountTable(parsing: "31 27 8:1 / \(point) \(options) - ext4 /dev/sda1 rw\n")
            return BackupConfiguration.restriction(
                of: try #require(table.mounts.first), mayHoldDevices: mayHoldDevices)
        }
        #expect(try found("rw,nosuid,nodev") == nil)
        let device = try #require(try found("rw,nosuid"))
        #expect(
            device.isWarning && device.isMet && device.hint?.contains("mount -o remount,nodev '/srv/it'\\''s'") == true)
        #expect(try found("rw")?.hint?.contains("write nosuid,nodev into the options of") == true)
        #expect(try found("rw", at: "/")?.hint?.contains("a file system of their own") == true)
        // A chroot that jailkit has made needs its devices.
        #expect(try found("rw,nosuid", mayHoldDevices: true)?.isNote == true)
        #expect(try found("rw", mayHoldDevices: true)?.hint?.contains("remount,nosuid '/srv") == true)
    }

    @Test("a directory of homes with an inherited group or ACL is a warning with the commands")
    func inheritance() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration()
        func found() async -> [Requirement] {
            await configuration.requirements().filter { $0.subject == "HOME_ROOTS" }
        }
        #expect(await found().map(\.isWarning) == [false])
        #expect(chmod(directory.homes.string, 0o2755) == 0)
        #expect(await found().map(\.isWarning) == [true])
        #expect(await found().first?.hint?.hasPrefix("chmod g-s \(directory.homes)") == true)
        #expect(chmod(directory.homes.string, 0o755) == 0)
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/bin/setfacl", arguments: ["-d", "-m", "g:1:rwx", directory.homes.string],
                environment: [:], timeLimit: .seconds(60), grace: .seconds(1)))
        #expect(result.complaint == nil, "\(result.outputTail)")
        #expect(await found().map(\.isWarning) == [true])
    }

    @Test(
        "a template that changes the meaning of a run is reported with its line",
        .enabled(if: Program.isExecutable("/usr/bin/rsnapshot")))
    func template() async throws {
        let directory = try TestDirectory()
        let template = try directory.write(text(shippedTemplate) + "sync_first\t1\n", to: "bad.template")
        let configuration = try directory.configuration { $0.template = template }
        let finding = await configuration.requirements().first { $0.subject == "RSNAPSHOT_TEMPLATE" }
        #expect(finding?.isMet == false)
        #expect(finding?.finding.contains("bad.template:") == true && finding?.finding.contains("sync_first") == true)
    }

    @Test("a script that others can write is reported")
    func script() async throws {
        let directory = try TestDirectory()
        let script = try directory.script("exit 0", mode: 0o777)
        let findings = await (try directory.configuration { $0.homeScript = script }).requirements()
        #expect(findings.first { $0.subject == "HOME_SCRIPT" }?.hint?.isEmpty == false)
    }
}

extension Requirement {
    /// Whether there is nothing to fix.
    var isMet: Bool { result != .unmet }
    var isNote: Bool { result == .note }
    var isWarning: Bool { result == .warning }
}
