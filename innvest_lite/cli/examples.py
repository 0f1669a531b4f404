"""What one would type: the examples below the options of each command. Called by `parser`."""

EXAMPLES = {
    "demo": ("demo", "demo --digits 20 --all -o pictures"),
    "methods": ("methods",),
    "inspect": ("inspect model.keras --all", "inspect --patterns patterns.h5"),
    "fit": (
        "fit model.keras photos/ --preprocess vgg16 -o patterns.h5",
        "fit model.keras x.npy --shard 1/4 --checkpoint part-1.sums -o part-1.h5",
    ),
    "merge": ("merge part-1.h5 part-2.h5 part-3.h5 part-4.h5 -o patterns.h5",),
    "analyze": (
        "analyze model.keras photos/ --preprocess vgg16 --method lrp.epsilon_plus_flat -o heat/",
        "analyze model.keras bird.jpg cat.jpg --preprocess unit --method gradcam --labels cat,bird --target bird",
        "analyze model.keras photos/ --method pattern.attribution --patterns patterns.h5 --overlay --format jpg",
        "analyze model.keras patients.csv --columns age,weight,dose --method integrated_gradients -o bars/",
    ),
    "evaluate": ("evaluate model.keras photos/ --preprocess vgg16 --limit 100 -o evaluation/",),
    "export": (
        "export model.keras --method lrp.epsilon -o served/",
        "export model.keras --method gradcam --preprocess vgg16 --render overlay -o explainer.tflite",
    ),
    "report": (
        "report model.keras photos/ --preprocess vgg16 -o report.html",
        "report model.keras photos/ --methods gradcam,pattern.attribution --patterns patterns.h5 --labels names.txt",
    ),
}
"""For each command, lines as one would type them behind `innvest-lite`."""
