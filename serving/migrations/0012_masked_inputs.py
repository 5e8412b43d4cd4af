from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('serving', '0011_sorts'),
    ]

    operations = [
        migrations.AddField(
            model_name='endpoint',
            name='masked_inputs',
            field=models.JSONField(default=list, help_text='Features whose logged values are shown only to whoever may unmask them.'),
        ),
    ]
