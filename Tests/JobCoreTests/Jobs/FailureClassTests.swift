import SystemPackage
import Testing

@testable import JobCore

@Suite struct FailureClassTests {
    @Test(
        "a shortage of the machine is told by the call's number alone, and a full quota is none",
        arguments: [
            (Errno.noSpace, FailureClass.shortage), (.ioError, .shortage), (.readOnlyFileSystem, .shortage),
            (.tooManyOpenFiles, .shortage), (.tooManyOpenFilesInSystem, .shortage), (.noMemory, .shortage),
            (.diskQuotaExceeded, .retryable), (.permissionDenied, nil), (.noSuchFileOrDirectory, nil),
            (.resourceTemporarilyUnavailable, nil), (.resourceBusy, nil),
        ] as [(Errno, FailureClass?)])
    func errno(errno: Errno, failureClass: FailureClass?) { #expect(FailureClass(errno) == failureClass) }

    @Test(
        "a script that cannot be started for want of processes, memory or files meets a shortage; one that is wrong does not",
        arguments: [
            (Errno.resourceTemporarilyUnavailable, FailureClass.shortage), (.noMemory, .shortage),
            (.tooManyOpenFiles, .shortage), (.tooManyOpenFilesInSystem, .shortage), (.ioError, .shortage),
            (.textFileBusy, .retryable), (.execFormatError, .configuration), (.argListTooLong, .permanent),
        ])
    func start(errno: Errno, failureClass: FailureClass) {
        let error = ScriptError.start(of: .test("/bin/true"), errno: errno)
        #expect(error.failureClass == failureClass)
        let directory = ScriptError.start(of: .test("/bin/true", workingDirectory: "/none"), errno: errno)
        #expect((directory.failureClass == .shortage) == (failureClass == .shortage))
    }

    @Test("lost scripts, users and paths that could not be looked up are classified by the same error numbers")
    func others() {
        func lost(_ errno: Errno) -> FailureClass {
            ScriptError(.lost, path: "/x", errno: errno, reason: "", hint: "").failureClass
        }
        #expect(lost(.tooManyOpenFiles) == .shortage && lost(.noSuchProcess) == .retryable)
        func user(_ errno: Errno) -> FailureClass {
            ScriptUserError("x", .noAnswer(errno: errno.rawValue)).failureClass
        }
        #expect(user(.tooManyOpenFiles) == .shortage && user(.timedOut) == .retryable)
        func path(_ errno: Errno) -> FailureClass {
            FileTrustError(file: "/x", problem: .unreachable(errno), path: "/x").failureClass
        }
        #expect(path(.ioError) == .shortage && path(.noSuchFileOrDirectory) == .configuration)
    }
}
