import Foundation
import Provisioning
import SystemPackage
import Testing

@testable import BackupService

@Suite struct ConfigurationStepTests {
    private func file(_ directory: TestDirectory) -> FilePath { directory.configurations.appending("3723707.conf") }

    @Test("a plan changes nothing, and shows the difference and the directories that would be made")
    func dryRun() async throws {
        let directory = try TestDirectory()
        let service = try BackupRsnapshotService(configuration: directory.configuration())
        try directory.write("config_version\t1.2\nretain\tdaily\t3\n", to: "rsnapshot.d/3723707.conf")
        let before = try directory.listing()
        let steps = try await service.plan(request(.add, directory.entry()))
        #expect(try directory.listing() == before)
        #expect(steps.map(\.name) == ["home", "rsnapshot configuration"])
        #expect(steps.first?.preview.contains("mkdir \(directory.homes)/3723707 (0755)") == true)
        let preview = steps.last?.preview ?? ""
        #expect(preview.hasPrefix("write \(file(directory)) (0640)\n"))
        for line in [" config_version\t1.2", "-retain\tdaily\t3", "+retain\tdaily\t7"] {
            #expect(preview.contains(line))
        }
    }

    @Test("a file whose content would not change is not touched")
    func unchanged() async throws {
        let directory = try TestDirectory()
        let service = try BackupRsnapshotService(configuration: directory.configuration())
        try await service.carryOut(.add, directory.entry())
        #expect(status(file(directory)).map { $0.st_mode & 0o7777 } == 0o640)
        let before = try directory.listing()
        let steps = try await service.plan(request(.modify, directory.entry()))
        #expect(steps.map(\.preview) == ["unchanged: \(file(directory))"])
        try await service.carryOut(.modify, directory.entry())
        #expect(try directory.listing() == before)
    }

    @Test("the file is read again if the home script may have changed it since the plan")
    func changedByScript() async throws {
        let directory = try TestDirectory()
        try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(.add, directory.entry())
        let whole = try text(file(directory))
        let script = try directory.script("echo cmd_preexec >> \(file(directory))")
        let service = try BackupRsnapshotService(configuration: directory.configuration { $0.homeScript = script })
        try await service.carryOut(.modify, directory.entry())
        #expect(try text(file(directory)) == whole)
    }

    @Test("a template is kept until it changes, and then read again")
    func changedTemplate() throws {
        let directory = try TestDirectory()
        let shipped = try text(shippedTemplate)
        func write(_ line: String) throws -> FilePath {
            try directory.write("\(line)\n\(shipped)", to: "some.template")
        }
        let template = TemplateFile(try write("# 1"), restlessTime: .zero)
        for line in ["# 1", "# 22", "# 333"] {
            _ = try write(line)
            for _ in 1...2 { #expect(try template.template().text == "\(line)\n\(shipped)") }
        }
        _ = try write("%HOUSE%")
        for _ in 1...2 {
            let failure = #expect(throws: ProvisioningFailure.self) { try template.template() }
            #expect(failure?.reason.contains("some.template:1: ") == true)
        }
    }

    @Test("a template that others could change is refused, also when it was read before, and with it the request")
    func openTemplate() async throws {
        let directory = try TestDirectory()
        let shipped = try text(shippedTemplate)
        let path = try directory.write(shipped, to: "some.template")
        let template = TemplateFile(path, restlessTime: .zero)
        for _ in 1...2 { _ = try template.template() }
        for (place, mode, usual) in [(path, 0o666, 0o644), (directory.path, 0o777, 0o755)]
            as [(FilePath, mode_t, mode_t)]
        {
            #expect(chmod(place.string, mode) == 0)
            let failure = #expect(throws: ProvisioningFailure.self) { try template.template() }
            #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
            #expect(failure?.hint == "chmod go-w \(place)")
            #expect(chmod(place.string, usual) == 0)
            #expect(try template.template().text == shipped)
        }
    }

    @Test("a program that others could change is not used, though another one would be found behind it")
    func openProgram() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration {
            $0.programDirectories.insert(directory.path.appending("scripts"), at: 0)
        }
        let rsync = try directory.write("#!/bin/sh\n", to: "scripts/rsync", mode: 0o757)
        let failure = #expect(throws: ProvisioningFailure.self) { try Program.rsync.find(configuration) }
        #expect(failure?.hint == "chmod go-w \(rsync)")
        #expect(failure?.failureClass == .configuration)
        #expect(chmod(rsync.string, 0o755) == 0)
        #expect(try Program.rsync.find(configuration) == rsync)
    }

    @Test("modify updates the file to the entry")
    func changed() async throws {
        let directory = try TestDirectory()
        let service = try BackupRsnapshotService(configuration: directory.configuration())
        try await service.carryOut(.add, directory.entry())
        var entry = directory.entry()
        entry["sstBackupIntervalDaily"] = ["14"]
        entry["sstBackupIntervalMonthly"] = ["0"]
        try await service.carryOut(.modify, entry)
        let lines = try text(file(directory)).split(separator: "\n").filter { $0.hasPrefix("retain") }
        #expect(lines == ["retain\tdaily\t14", "retain\tweekly\t4"])
    }

    @Test("a crash before the rename leaves the old file, and the leftover new file is overwritten")
    func crash() async throws {
        let directory = try TestDirectory()
        let service = try BackupRsnapshotService(configuration: directory.configuration())
        try await service.carryOut(.add, directory.entry())
        let old = try text(file(directory))
        let configurationFile = ConfigurationFile(of: "3723707", service.configuration)
        try configurationFile.writeTemporary("half a fi")
        #expect(try text(file(directory)) == old)

        var entry = directory.entry()
        entry["sstBackupIntervalDaily"] = ["9"]
        try await service.carryOut(.modify, entry)
        #expect(try text(file(directory)).contains("retain\tdaily\t9"))
        #expect(!exists(configurationFile.temporaryPath))

        try configurationFile.writeTemporary("half a fi")
        try await service.carryOut(.modify, entry)
        #expect(!exists(configurationFile.temporaryPath), "also where the file itself does not change")
    }

    @Test("a link in the file's place is replaced and never followed")
    func link() async throws {
        let directory = try TestDirectory()
        let victim = try directory.write("precious", to: "victim")
        try directory.link("rsnapshot.d/3723707.conf", to: victim)
        try directory.link("rsnapshot.d/.3723707.conf.new", to: victim)
        try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(.add, directory.entry())
        #expect(try text(victim) == "precious")
        #expect(status(file(directory)).map { $0.st_mode & S_IFMT } == S_IFREG)
    }

    @Test("needs root: a directory of configurations that others can write is refused", .enabled(if: isRoot))
    func untrustedDirectory() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("rsnapshot.d", mode: 0o777)
        let failure = try await BackupRsnapshotService(configuration: directory.configuration()).failure(
            .add, directory.entry())
        #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
        #expect(failure?.failureClass == .configuration)
    }

    @Test("a missing directory of configurations is code 7 with the command to make it")
    func missingDirectory() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration {
            $0.configurationDirectory = directory.path.appending("absent")
        }
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, directory.entry())
        #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
        #expect(failure?.hint.contains("install -d") == true)
    }

    @Test("a template that is missing or wrong is code 7, class configuration, and nothing is made")
    func badTemplate() async throws {
        let directory = try TestDirectory()
        for template in [
            directory.path.appending("absent"), try directory.write("backup\t%HOUSE%\t./\n", to: "bad.template"),
        ] {
            let configuration = try directory.configuration { $0.template = template }
            let before = try directory.listing()
            let failure = try await BackupRsnapshotService(configuration: configuration).failure(
                .add, directory.entry())
            #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
            #expect(failure?.failureClass == .configuration)
            #expect(failure?.reason.contains(template.string) == true)
            #expect(try directory.listing() == before)
        }
    }

    @Test("a missing program is code 3, and nothing is made")
    func missingPrograms() async throws {
        let directory = try TestDirectory()
        for change: (inout BackupConfiguration) -> Void in [
            { $0.programDirectories = [directory.path] }, { $0.rsnapshot = directory.path.appending("rsnapshot") },
        ] {
            let configuration = try directory.configuration(change)
            let before = try directory.listing()
            let failure = try await BackupRsnapshotService(configuration: configuration).failure(
                .add, directory.entry())
            #expect(failure?.code == .runtimeRequirementNotSatisfied)
            #expect(failure?.hint.hasPrefix("apt install") == true)
            #expect(try directory.listing() == before)
        }
    }

    @Test("an account unknown to the system is code 2 with REQUIRE_SYSTEM_USER")
    func systemUser() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration { $0.requireSystemUser = true }
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, directory.entry())
        #expect(failure?.code == .userNotPresentInBackend)
        #expect(failure?.hint.contains("getent passwd 3723707") == true)
    }

    /// An rsnapshot that counts its runs and exits as configured.
    private func counting(_ directory: TestDirectory, exit code: Int) throws -> FilePath {
        try directory.write(
            "#!/bin/sh\necho \"$@\" >> \(directory.path)/asked\necho wrong in line 4\nexit \(code)\n", to: "rsnapshot",
            mode: 0o755)
    }

    private func asked(_ directory: TestDirectory) throws -> [String] {
        let log = directory.path.appending("asked")
        return exists(log) ? try text(log).split(separator: "\n").map(String.init) : []
    }

    @Test(
        "rsnapshot configtest runs once for each template and rsnapshot, always, or never",
        arguments: [
            (ConfigurationTest.template, [1, 1, 2, 3]), (.always, [1, 2, 3, 4]), (.never, [0, 0, 0, 0]),
        ])
    func whenTested(mode: ConfigurationTest, counts: [Int]) async throws {
        let directory = try TestDirectory()
        let program = try counting(directory, exit: 0)
        let service = try BackupRsnapshotService(
            configuration: directory.configuration {
                $0.rsnapshot = program
                $0.configurationTest = mode
            })
        try await service.carryOut(.add, directory.entry(uid: "3723701"))
        #expect(try asked(directory).count == counts[0])
        try await service.carryOut(.add, directory.entry(uid: "3723702"))
        #expect(try asked(directory).count == counts[1])
        try directory.write(text(shippedTemplate) + "# changed\n", to: "account.template")
        try await service.carryOut(.add, directory.entry(uid: "3723703"))
        #expect(try asked(directory).count == counts[2])
        try directory.write(text(program) + "# another version\n", to: "rsnapshot", mode: 0o755)
        try await service.carryOut(.add, directory.entry(uid: "3723704"))
        #expect(try asked(directory).count == counts[3])
    }

    @Test("a file that rsnapshot rejects is code 7 with its output, and the old file stays")
    func rejected() async throws {
        let directory = try TestDirectory()
        try await BackupRsnapshotService(configuration: directory.configuration()).carryOut(.add, directory.entry())
        let old = try text(file(directory))
        let program = try counting(directory, exit: 1)
        let service = try BackupRsnapshotService(
            configuration: directory.configuration {
                $0.rsnapshot = program
                $0.configurationTest = .template
            })
        var entry = directory.entry()
        entry["sstBackupIntervalDaily"] = ["9"]
        for attempt in 1...2 {
            let failure = try await service.failure(.modify, entry)
            #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
            #expect(failure?.reason.contains("wrong in line 4") == true)
            #expect(try text(file(directory)) == old)
            #expect(try asked(directory).count == attempt, "what was rejected is not remembered as tested")
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: directory.configurations.string) == ["3723707.conf"]
            )
        }
    }
}
