import JobCore
import Provisioning

/// Makes the plain home, or, after the home script, makes sure of it and adds what it lacks.
struct PlainHomeStep: ProvisioningStep {
    let home: PlainHome
    /// Whether the home itself is made here, because no script does.
    let makesHome: Bool
    let name = "home"
    private let missing: PlainHome.Missing

    /// - Parameter walk: to the home, as it is when the plan is made.
    init(home: PlainHome, walk: HomeWalk, makesHome: Bool) throws(ProvisioningFailure) {
        self.home = home
        self.makesHome = makesHome
        missing = try home.missing(in: walk)
    }

    var preview: String {
        let folders = home.preview(of: missing)
        if makesHome { return folders }
        return "check that the script left \(home.home.path), and make what it did not:"
            + (folders.isEmpty ? " nothing" : "\n" + folders)
    }

    func perform(in attempt: RunningAttempt) async throws {
        let (home, makesHome) = (home, makesHome)
        try await BlockingWork.run { _ in try home.complete(makesHome: makesHome) }
    }
}
