import Foundation
import Provisioning
import SystemPackage
import Testing

@testable import BackupRsnapshot

@Suite struct ConfigurationStepTests {
    private func file(_ folder: TestFolder) -> FilePath { folder.configurations.appending("3723707.conf") }

    @Test("a plan changes nothing, and shows the difference and the folders that would be made")
    func dryRun() async throws {
        let folder = try TestFolder()
        let service = try BackupRsnapshotService(configuration: folder.configuration())
        try folder.write("config_version\t1.2\nretain\tdaily\t3\n", to: "rsnapshot.d/3723707.conf")
        let before = try folder.listing()
        let steps = try await service.plan(request(.add, folder.entry()))
        #expect(try folder.listing() == before)
        #expect(steps.map(\.name) == ["home", "rsnapshot configuration"])
        #expect(steps.first?.preview.contains("mkdir \(folder.homes)/3723707 (0755)") == true)
        let preview = steps.last?.preview ?? ""
        #expect(preview.hasPrefix("write \(file(folder)) (0640)\n"))
        for line in [" config_version\t1.2", "-retain\tdaily\t3", "+retain\tdaily\t7"] {
            #expect(preview.contains(line))
        }
    }

    @Test("a file whose content would not change is not touched")
    func unchanged() async throws {
        let folder = try TestFolder()
        let service = try BackupRsnapshotService(configuration: folder.configuration())
        try await service.carryOut(.add, folder.entry())
        #expect(status(file(folder)).map { $0.st_mode & 0o7777 } == 0o640)
        let before = try folder.listing()
        let steps = try await service.plan(request(.modify, folder.entry()))
        #expect(steps.map(\.preview) == ["unchanged: \(file(folder))"])
        try await service.carryOut(.modify, folder.entry())
        #expect(try folder.listing() == before)
    }

    @Test("what a plan saw holds only where nothing was done since: the home script may have changed the file")
    func changedByScript() async throws {
        let folder = try TestFolder()
        try await BackupRsnapshotService(configuration: folder.configuration()).carryOut(.add, folder.entry())
        let whole = try text(file(folder))
        let script = try folder.script("echo cmd_preexec >> \(file(folder))")
        let service = try BackupRsnapshotService(configuration: folder.configuration { $0.homeScript = script })
        try await service.carryOut(.modify, folder.entry())
        #expect(try text(file(folder)) == whole)
    }

    @Test("a template is kept until it changes, and then read anew")
    func changedTemplate() throws {
        let folder = try TestFolder()
        func write(_ value: String) throws -> FilePath { try folder.write("verbose\t\(value)\n", to: "some.template") }
        let template = TemplateFile(try write("1"), restlessTime: .zero)
        for value in ["1", "22", "333"] {
            _ = try write(value)
            for _ in 1...2 { #expect(try template.template().text == "verbose\t\(value)\n") }
        }
        _ = try write("%HOUSE%")
        for _ in 1...2 {
            let failure = #expect(throws: ProvisioningFailure.self) { try template.template() }
            #expect(failure?.reason.contains("some.template:1: ") == true)
        }
    }

    @Test("a template that others could change is refused, also when it was read before, and with it the request")
    func openTemplate() async throws {
        let folder = try TestFolder()
        let path = try folder.write("verbose\t1\n", to: "some.template")
        let template = TemplateFile(path, restlessTime: .zero)
        for _ in 1...2 { _ = try template.template() }
        for (place, mode, usual) in [(path, 0o666, 0o644), (folder.path, 0o777, 0o755)] as [(FilePath, mode_t, mode_t)]
        {
            #expect(chmod(place.string, mode) == 0)
            let failure = #expect(throws: ProvisioningFailure.self) { try template.template() }
            #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
            #expect(failure?.hint == "chmod go-w \(place)")
            #expect(chmod(place.string, usual) == 0)
            #expect(try template.template().text == "verbose\t1\n")
        }
    }

    @Test("a program that others could change is not used, though another one would be found behind it")
    func openProgram() async throws {
        let folder = try TestFolder()
        let configuration = try folder.configuration {
            $0.programDirectories.insert(folder.path.appending("scripts"), at: 0)
        }
        let rsync = try folder.write("#!/bin/sh\n", to: "scripts/rsync", mode: 0o757)
        let failure = #expect(throws: ProvisioningFailure.self) { try Program.rsync.find(configuration) }
        #expect(failure?.hint == "chmod go-w \(rsync)")
        #expect(failure?.failureClass == .configuration)
        #expect(chmod(rsync.string, 0o755) == 0)
        #expect(try Program.rsync.find(configuration) == rsync)
    }

    @Test("modify brings the file to what the entry says now")
    func changed() async throws {
        let folder = try TestFolder()
        let service = try BackupRsnapshotService(configuration: folder.configuration())
        try await service.carryOut(.add, folder.entry())
        var entry = folder.entry()
        entry["sstBackupIntervalDaily"] = ["14"]
        entry["sstBackupIntervalMonthly"] = ["0"]
        try await service.carryOut(.modify, entry)
        let lines = try text(file(folder)).split(separator: "\n").filter { $0.hasPrefix("retain") }
        #expect(lines == ["retain\tdaily\t14", "retain\tweekly\t4"])
    }

    @Test("a crash before the rename leaves the old file, and what it left is overwritten")
    func crash() async throws {
        let folder = try TestFolder()
        let service = try BackupRsnapshotService(configuration: folder.configuration())
        try await service.carryOut(.add, folder.entry())
        let old = try text(file(folder))
        let configurationFile = ConfigurationFile(
            directory: folder.configurations, uid: "3723707", ownership: service.configuration.ownership)
        try configurationFile.writeTemporary("half a fi")
        #expect(try text(file(folder)) == old)

        var entry = folder.entry()
        entry["sstBackupIntervalDaily"] = ["9"]
        try await service.carryOut(.modify, entry)
        #expect(try text(file(folder)).contains("retain\tdaily\t9"))
        #expect(!exists(configurationFile.temporaryPath))

        try configurationFile.writeTemporary("half a fi")
        try await service.carryOut(.modify, entry)
        #expect(!exists(configurationFile.temporaryPath), "also where the file itself does not change")
    }

    @Test("a link in the file's place is replaced and never followed")
    func link() async throws {
        let folder = try TestFolder()
        let victim = try folder.write("precious", to: "victim")
        try folder.link("rsnapshot.d/3723707.conf", to: victim)
        try folder.link("rsnapshot.d/.3723707.conf.new", to: victim)
        try await BackupRsnapshotService(configuration: folder.configuration()).carryOut(.add, folder.entry())
        #expect(try text(victim) == "precious")
        #expect(status(file(folder)).map { $0.st_mode & S_IFMT } == S_IFREG)
    }

    @Test("needs root: a folder of configurations that others can write is refused", .enabled(if: isRoot))
    func untrustedFolder() async throws {
        let folder = try TestFolder()
        try folder.makeFolder("rsnapshot.d", mode: 0o777)
        let failure = try await BackupRsnapshotService(configuration: folder.configuration()).failure(
            .add, folder.entry())
        #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
        #expect(failure?.failureClass == .configuration)
    }

    @Test("a folder of configurations that is missing is code 7 and says how to make it")
    func missingFolder() async throws {
        let folder = try TestFolder()
        let configuration = try folder.configuration { $0.configurationDirectory = folder.path.appending("absent") }
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, folder.entry())
        #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
        #expect(failure?.hint.contains("install -d") == true)
    }

    @Test("a template that is missing or wrong is code 7, class configuration, and nothing is made")
    func badTemplate() async throws {
        let folder = try TestFolder()
        for template in [
            folder.path.appending("absent"), try folder.write("backup\t%HOUSE%\t./\n", to: "bad.template"),
        ] {
            let configuration = try folder.configuration { $0.template = template }
            let before = try folder.listing()
            let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, folder.entry())
            #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
            #expect(failure?.failureClass == .configuration)
            #expect(failure?.reason.contains(template.string) == true)
            #expect(try folder.listing() == before)
        }
    }

    @Test("a program that is missing is code 3, and nothing is made")
    func missingPrograms() async throws {
        let folder = try TestFolder()
        for change: (inout BackupConfiguration) -> Void in [
            { $0.programDirectories = [folder.path] }, { $0.rsnapshot = folder.path.appending("rsnapshot") },
        ] {
            let configuration = try folder.configuration(change)
            let before = try folder.listing()
            let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, folder.entry())
            #expect(failure?.code == .runtimeRequirementNotSatisfied)
            #expect(failure?.hint.hasPrefix("apt install") == true)
            #expect(try folder.listing() == before)
        }
    }

    @Test("an account that the system does not know is code 2 where it must know it")
    func systemUser() async throws {
        let folder = try TestFolder()
        let configuration = try folder.configuration { $0.requireSystemUser = true }
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, folder.entry())
        #expect(failure?.code == .userNotPresentInBackend)
        #expect(failure?.hint.contains("getent passwd 3723707") == true)
    }

    /// A rsnapshot that counts how often it is asked, and answers as it is told.
    private func counting(_ folder: TestFolder, exit code: Int) throws -> FilePath {
        try folder.write(
            "#!/bin/sh\necho \"$@\" >> \(folder.path)/asked\necho wrong in line 4\nexit \(code)\n", to: "rsnapshot",
            mode: 0o755)
    }

    private func asked(_ folder: TestFolder) throws -> [String] {
        let log = folder.path.appending("asked")
        return exists(log) ? try text(log).split(separator: "\n").map(String.init) : []
    }

    @Test(
        "rsnapshot is asked once for each template and rsnapshot, always, or never",
        arguments: [
            (ConfigurationTest.template, [1, 1, 2, 3]), (.always, [1, 2, 3, 4]), (.never, [0, 0, 0, 0]),
        ])
    func whenTested(mode: ConfigurationTest, counts: [Int]) async throws {
        let folder = try TestFolder()
        let program = try counting(folder, exit: 0)
        let service = try BackupRsnapshotService(
            configuration: folder.configuration {
                $0.rsnapshot = program
                $0.configurationTest = mode
            })
        try await service.carryOut(.add, folder.entry(uid: "3723701"))
        #expect(try asked(folder).count == counts[0])
        try await service.carryOut(.add, folder.entry(uid: "3723702"))
        #expect(try asked(folder).count == counts[1])
        try folder.write(text(shippedTemplate) + "# changed\n", to: "account.template")
        try await service.carryOut(.add, folder.entry(uid: "3723703"))
        #expect(try asked(folder).count == counts[2])
        try folder.write(text(program) + "# another version\n", to: "rsnapshot", mode: 0o755)
        try await service.carryOut(.add, folder.entry(uid: "3723704"))
        #expect(try asked(folder).count == counts[3])
    }

    @Test("a file that rsnapshot rejects is code 7 with its words, and the old file stays")
    func rejected() async throws {
        let folder = try TestFolder()
        try await BackupRsnapshotService(configuration: folder.configuration()).carryOut(.add, folder.entry())
        let old = try text(file(folder))
        let program = try counting(folder, exit: 1)
        let service = try BackupRsnapshotService(
            configuration: folder.configuration {
                $0.rsnapshot = program
                $0.configurationTest = .template
            })
        var entry = folder.entry()
        entry["sstBackupIntervalDaily"] = ["9"]
        for attempt in 1...2 {
            let failure = try await service.failure(.modify, entry)
            #expect(failure?.code == .cannotCreateRsnapshotConfiguration)
            #expect(failure?.reason.contains("wrong in line 4") == true)
            #expect(try text(file(folder)) == old)
            #expect(try asked(folder).count == attempt, "what was rejected is not remembered as tested")
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: folder.configurations.string) == ["3723707.conf"])
        }
    }
}
