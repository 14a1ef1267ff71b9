import JobCore
import Testing

@Suite struct ExitProfileTests {
    static let table: [(profile: ExitProfile, listed: [Int32: JobResult])] = [
        (.posix, [0: .success]),
        (.lightsOutServer, [0: .success, 1: .failed, 2: .aborted, 3: .warnings, 4: .undefined]),
        (
            .lightsOutClient,
            [0: .success, 1: .failed, 2: .aborted, 3: .warnings, 4: .missed, 5: .wrongConfiguration, 255: .unknown]
        ),
        (.rsnapshot, [0: .success, 1: .failed, 2: .warnings]),
    ]

    @Test(
        "each profile gives the codes it lists their meaning, and every other code is a failure with the code kept",
        arguments: table)
    func codes(profile: ExitProfile, listed: [Int32: JobResult]) {
        for code in 0...255 as ClosedRange<Int32> {
            let reading = profile.reading(of: .exited(code: code))
            #expect(reading.result == listed[code] ?? .failed, "\(profile.name) \(code)")
            #expect(reading.termination == .exited(code: code))
            #expect(reading.profile == profile.name)
            #expect((reading.failureClass == nil) == reading.result.isSuccess)
            #expect((reading.failureClass == .retryable) == (code == 75), "\(profile.name) \(code)")
        }
    }

    @Test("a signal is a failure with the signal kept, in every profile", arguments: ExitProfile.builtIn)
    func signal(profile: ExitProfile) {
        let reading = profile.reading(of: .signaled(number: 9))
        #expect(reading.result == .failed)
        #expect(reading.termination == .signaled(number: 9))
        #expect(reading.description == "failed (signal 9, profile \(profile.name))")
    }

    @Test("built-in profiles have names of their own")
    func names() {
        #expect(ExitProfile.builtIn.map(\.name) == ["posix", "lightsout-server", "lightsout-client", "rsnapshot"])
    }

    @Test("a wrong configuration has that failure class, and a profile can list codes that ask for a retry")
    func classes() {
        #expect(ExitProfile.lightsOutClient.reading(of: .exited(code: 5)).failureClass == .configuration)
        let profile = ExitProfile(
            name: "own",
            meanings: [
                0: .init(.success, failureClass: .retryable), 4: .init(.failed, failureClass: .retryable),
                5: .init(.failed, failureClass: .configuration, title: "LACKING"), 75: .init(.failed),
            ])
        #expect(profile.reading(of: .exited(code: 4)).failureClass == .retryable)
        #expect(profile.reading(of: .exited(code: 9)).failureClass == .permanent)
        #expect(profile.reading(of: .exited(code: 75)).failureClass == .permanent)
        #expect(profile.reading(of: .exited(code: 0)).failureClass == nil)
        #expect(profile.reading(of: .exited(code: 5)).description == "LACKING (exit code 5, profile own)")
    }

    @Test(
        "a script that was stopped counts as stopped, for any exit code",
        arguments: [0, 1, 75] as [Int32])
    func stopped(code: Int32) {
        let limited = ExitProfile.posix.reading(of: ScriptResult(termination: .exited(code: code), cause: .timeLimit))
        #expect(limited.result == .failed)
        #expect(limited.failureClass == .permanent)
        #expect(limited.termination == .exited(code: code))
        let cancelled = ExitProfile.posix.reading(
            of: ScriptResult(termination: .exited(code: code), cause: .cancellation))
        #expect(cancelled.result == .aborted)
    }
}
